// VT-d second-level tables: map and unmap one page of order 0, 9 or 18, with superpages split and re-formed on the way
// (as intel_iommu_map_page and intel_iommu_unmap_page). Everything here runs under the domain's mapping lock; DMA threads
// walk the same slots at the same time. Write order: the child is complete, then one store into the parent, then the
// caller's flush, then (never here) the free of what became unreachable.
import type { Domain } from '../../domain/domain.ts';
import type { Mfn } from '../../frames/addresses.ts';
import type { Host } from '../../host.ts';
import { errno } from '../../hypercall/errno.ts';
import { makeSlot, ROOT_LEVEL, SLOT_R, SLOT_SNP, SLOT_SP, SLOT_W, slotFrame, tableOffset } from '../../p2m/entry.ts';
import { counter } from '../../shared-memory/counters.ts';
import { load, publish, store } from '../../shared-memory/slots.ts';
import { step, stepKind } from '../../shared-memory/step.ts';
import { SLOTS_PER_TABLE, type TableIndex } from '../../shared-memory/table-pages.ts';
import { type EntryKind, entryKind, updateMarkers, withoutMarker } from '../contiguity.ts';
import {
  FLUSHF_added,
  FLUSHF_all,
  FLUSHF_modified,
  type FlushFlags,
  IOMMUF_readable,
  IOMMUF_writable,
} from '../flags.ts';
import { allocIoTable, freeIoTable, queueFree, queueSubtree } from '../table-pages.ts';
import { isPresent, isTable, linkTable, SLOT_LENT } from './entry.ts';
import { breakLeaf, type Superpage, shattered, splitIoLeaf, splitStrategy } from './split.ts';

const C_MAP = counter('iommu.map');
const C_UNMAP = counter('iommu.unmap');
const C_COALESCES = counter('iommu.ptCoalesces');

/** The domain's root, allocated at first need. 0: no memory. Mapping lock held. */
export function ensureRoot(h: Host, d: Domain): TableIndex | 0 {
  if (d.r.iommuRoot !== 0) return d.r.iommuRoot as TableIndex;
  const root = allocIoTable(h, d.slot);
  if (root !== 0) {
    d.r.iommuRoot = root;
    d.r.iommuTables++;
  }
  return root;
}

/**
 * Slot index of the entry of level `target` for `dfn`. 0: nothing is mapped there (only without `alloc`). Negative: errno.
 * Missing tables are made if `alloc`; a superpage on the way is split in any case, since the caller means to change a part.
 */
function descend(h: Host, d: Domain, dfn: number, target: number, alloc: boolean, flush: FlushFlags): number {
  const { slots } = h.tables;
  let table: number = alloc ? ensureRoot(h, d) : d.r.iommuRoot;
  if (table === 0) return alloc ? -errno.ENOMEM : 0;
  for (let level = ROOT_LEVEL; level > target; level--) {
    const offset = tableOffset(dfn, level);
    const index = table * SLOTS_PER_TABLE + offset;
    const slot = load(slots, index);
    if (isTable(slot, level)) {
      table = slotFrame(slot);
      continue;
    }
    if (!isPresent(slot) && !alloc) return 0;
    const page = { index, leaf: withoutMarker(slot), level, target, dfn };
    if (isPresent(slot) && splitStrategy(h) === 'naive') return splitNaively(h, d, page, flush);
    const child = allocIoTable(h, d.slot, isPresent(slot));
    if (child === 0) return -errno.ENOMEM;
    const rc = isPresent(slot) ? splitIoLeaf(h, d, page, child, flush) : linkTable(h, index, child);
    if (rc !== 0) {
      freeIoTable(h, child);
      return rc;
    }
    d.r.iommuTables++;
    updateMarkers(slots, table * SLOTS_PER_TABLE, offset, level, entryKind.table);
    table = child;
  }
  return table * SLOTS_PER_TABLE + tableOffset(dfn, target);
}

/**
 * The naive split: unmap the superpage and flush, then map every other page of it again by the ordinary path, one by one.
 * Until its turn comes a neighbour has no mapping (seed 001). Answers the slot index of the page left out, or -ENOMEM with
 * nothing changed.
 */
function splitNaively(h: Host, d: Domain, page: Superpage, flush: FlushFlags): number {
  const { slots } = h.tables;
  const { dfn, target } = page;
  const children: TableIndex[] = [];
  for (let level = page.level; level > target; level--) {
    const child = allocIoTable(h, d.slot);
    if (child === 0) {
      for (const table of children) freeIoTable(h, table);
      return -errno.ENOMEM;
    }
    children.push(child);
  }
  breakLeaf(h, d, page);
  let index = page.index;
  let level = page.level;
  for (const child of children) {
    const base = index - (index % SLOTS_PER_TABLE);
    publish();
    store(slots, index, makeSlot(child, SLOT_R | SLOT_W));
    updateMarkers(slots, base, index - base, level, entryKind.table);
    d.r.iommuTables++;
    level--;
    index = child * SLOTS_PER_TABLE + tableOffset(dfn, level);
  }
  remapNeighbours(h, d, page, flush);
  shattered(h, flush);
  return index;
}

/** Maps all of a broken superpage but the part of level `target` around `dfn`, in pieces as large as fit. */
function remapNeighbours(h: Host, d: Domain, { leaf, level, target, dfn }: Superpage, flush: FlushFlags): void {
  const first = dfn - (dfn % 512 ** level);
  const frame = slotFrame(leaf);
  const flags = ((leaf & SLOT_R) !== 0 ? IOMMUF_readable : 0) | ((leaf & SLOT_W) !== 0 ? IOMMUF_writable : 0);
  for (let piece = level - 1; piece >= target; piece--) {
    const span = 512 ** piece;
    const base = dfn - (dfn % (span * 512));
    for (let at = base; at < base + span * 512; at += span) {
      if (dfn >= at && dfn < at + span) continue;
      vtdMapPage(h, d, at, frame + (at - first), piece * 9, flags, flush);
    }
  }
}

function leafFor(h: Host, d: Domain, m: number, level: number, flags: number): number {
  const own = m < h.config.frames && h.frames.ownerOf(m as Mfn) === d.domid;
  return makeSlot(
    m,
    ((flags & IOMMUF_readable) !== 0 ? SLOT_R : 0) |
      ((flags & IOMMUF_writable) !== 0 ? SLOT_W : 0) |
      (level > 0 ? SLOT_SP : 0) |
      (own ? 0 : SLOT_LENT) |
      (h.iommu.snoop ? SLOT_SNP : 0),
  );
}

/** Maps 2^order pages (order 0, 9, 18; dfn and mfn aligned). 0, -ENOMEM; 0 without effect for a dying domain. */
export function vtdMapPage(
  h: Host,
  d: Domain,
  dfn: number,
  m: number,
  order: number,
  flags: number,
  flush: FlushFlags,
): number {
  d.locks.iommuMapping.lock();
  try {
    // Tables of a dying domain may be going away already: as Xen, silently nothing.
    return d.dying ? 0 : setPage(h, d, dfn, order / 9, leafFor(h, d, m, order / 9, flags), flush);
  } finally {
    d.locks.iommuMapping.unlock();
  }
}

/** Unmaps 2^order pages. 0 (also where nothing was mapped), or -ENOMEM when a superpage could not be split. */
export function vtdUnmapPage(h: Host, d: Domain, dfn: number, order: number, flush: FlushFlags): number {
  d.locks.iommuMapping.lock();
  try {
    return setPage(h, d, dfn, order / 9, 0, flush);
  } finally {
    d.locks.iommuMapping.unlock();
  }
}

/** The entry of that level at `dfn` becomes `fresh` (0: absent), and what the entry replaced is queued for freeing. */
function setPage(h: Host, d: Domain, dfn: number, level: number, fresh: number, flush: FlushFlags): number {
  const maps = fresh !== 0;
  const index = descend(h, d, dfn, level, maps, flush);
  if (index <= 0) return index;
  const { slots } = h.tables;
  const old = load(slots, index);
  if (maps ? withoutMarker(old) === fresh : !isPresent(old)) return 0;
  const failed = step(stepKind.ioWrite, index);
  if (failed !== 0) return -failed;
  publish();
  store(slots, index, fresh);
  h.counters.add(maps ? C_MAP : C_UNMAP);
  if (maps) flush.bits |= FLUSHF_added;
  if (isPresent(old)) flush.bits |= FLUSHF_modified;
  collapse(h, d, dfn, index, level, maps ? entryKind.leaf : entryKind.absent, flush);
  if (isTable(old, level)) d.r.iommuTables -= queueSubtree(h, slotFrame(old) as TableIndex, level - 1);
  return 0;
}

/** May a table of that level give way to a superpage, or, when all of it is absent, to nothing? */
function mayCollapse(h: Host, level: number, kind: EntryKind): boolean {
  // Units of fewer levels enter at the tables further down.
  if (kind === entryKind.absent) return level + 2 < h.iommu.minLevels;
  return level === 0 ? h.iommu.superpage2m : level === 1 && h.iommu.superpage1g;
}

/** An entry changed: while that makes its table one run, an entry one level up takes the table's place. */
function collapse(
  h: Host,
  d: Domain,
  dfn: number,
  changed: number,
  changedLevel: number,
  kind: EntryKind,
  flush: FlushFlags,
): void {
  const { slots } = h.tables;
  let index = changed;
  for (let level = changedLevel; ; level++) {
    const offset = index % SLOTS_PER_TABLE;
    const base = index - offset;
    if (!updateMarkers(slots, base, offset, level, kind) || !mayCollapse(h, level, kind)) return;
    const parent = descend(h, d, dfn, level + 1, false, flush);
    const first = withoutMarker(load(slots, base));
    if (step(stepKind.ioWrite, parent) !== 0) return;
    publish();
    if (kind === entryKind.absent) store(slots, parent, 0);
    else {
      store(slots, parent, (first & SLOT_SP) === 0 ? first + SLOT_SP : first);
      flush.bits |= FLUSHF_modified;
      h.counters.add(C_COALESCES);
    }
    flush.bits |= FLUSHF_all;
    queueFree(h, (base / SLOTS_PER_TABLE) as TableIndex);
    d.r.iommuTables--;
    index = parent;
  }
}

/** What a lookup found. */
export class IoLeaf {
  mfn = -1;
  /** IOMMUF_readable | IOMMUF_writable. */
  flags = 0;
  order = 0;
}

/** The leaf at `dfn`; false if absent. Takes the mapping lock. */
export function vtdLookup(h: Host, d: Domain, dfn: number, out: IoLeaf): boolean {
  d.locks.iommuMapping.lock();
  const found = peekLeaf(h, d.r.iommuRoot, dfn, out);
  d.locks.iommuMapping.unlock();
  return found;
}

/** The same without a lock: a look that may be stale at once. */
export function peekLeaf(h: Host, root: number, dfn: number, out: IoLeaf): boolean {
  let table = root;
  for (let level = ROOT_LEVEL; table !== 0 && level >= 0; level--) {
    const slot = h.tables.read(table as TableIndex, tableOffset(dfn, level));
    if (!isPresent(slot)) return false;
    if (isTable(slot, level)) {
      table = slotFrame(slot);
      continue;
    }
    out.mfn = slotFrame(slot) + (dfn % 512 ** level);
    out.flags = ((slot & SLOT_R) !== 0 ? IOMMUF_readable : 0) | ((slot & SLOT_W) !== 0 ? IOMMUF_writable : 0);
    out.order = level * 9;
    return true;
  }
  return false;
}
