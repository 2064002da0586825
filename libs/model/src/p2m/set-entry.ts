// Writing the p2m: one leaf (ept_set_entry) and the generic loop over chunks (p2m_set_entry). The order of effects is the
// point of this file; it is p2m fact sheet 5, step by step. The caller holds the p2m write lock.
import type { Domain } from '../domain/domain.ts';
import { putPage } from '../domain/memory.ts';
import { type Domid, INVALID_MFN, MAX_GFN, type Mfn, type Order } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { FLUSHF_added, FLUSHF_modified, IOMMUF_readable, IOMMUF_writable } from '../iommu/flags.ts';
import { iommuIotlbFlush, iommuLegacyMap, iommuLegacyUnmap } from '../iommu/iommu.ts';
import { counter } from '../shared-memory/counters.ts';
import { load, publish, store } from '../shared-memory/slots.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { SLOTS_PER_TABLE, type TableIndex } from '../shared-memory/table-pages.ts';
import {
  makeLeaf,
  makeMiddle,
  ROOT_LEVEL,
  SLOT_R,
  SLOT_SP,
  SLOT_W,
  SLOT_X,
  slotFrame,
  slotLow,
  slotType,
  tableOffset,
} from './entry.ts';
import { p2mTlbFlushSync, syncDomain } from './p2m.ts';
import { p2mAllocTable, p2mFreeTable } from './paging-pool.ts';
import { splitLeaf } from './split.ts';
import { iommuRightsOf, mayHaveInvalidMfn, p2mType } from './types.ts';

const C_SET = counter('p2m.set');
const PRESENT = SLOT_R | SLOT_W | SLOT_X;

/** A device's rights through a leaf: with shared tables the CPU's r and w bits, otherwise by type (p2m fact sheet 2). */
export function deviceRights(d: Domain, slot: number): number {
  if (slot === 0) return 0;
  const low = slotLow(slot);
  if (d.has('hapPtShare')) return low & (SLOT_R | SLOT_W);
  return iommuRightsOf(slotType(low), (low >> 8) & 15);
}

/** The slot that a set would write; 0 = hole. Types without a frame need one of the types that may lack it. */
function leafSlot(m: Mfn, level: number, type: number, access: number): number {
  if (m === INVALID_MFN && !mayHaveInvalidMfn(type)) return 0;
  if (type === p2mType.invalid || type === p2mType.mmioDm) return 0;
  return makeLeaf(m, level, type, access);
}

/**
 * Sets the leaf of `order` (0, 9 or 18) at `g`. 0, or -EINVAL (alignment, width), -ENOMEM (paging pool), -EBUSY (a foreign
 * frame cannot be referenced), -EILSEQ (a foreign frame is unmapped by a caller without a reference of its own). Effects in Xen's order: table write, CPU flush (deferred), IOMMU (synchronous), old tables.
 */
export function eptSetEntry(h: Host, d: Domain, g: number, m: Mfn, order: Order, type: number, access: number): number {
  const pages = 2 ** order;
  if (order % 9 !== 0 || order > 18 || g % pages !== 0 || (m !== INVALID_MFN && m % pages !== 0)) return -errno.EINVAL;
  if (g < 0 || g + pages - 1 > MAX_GFN) return -errno.EINVAL;
  if (step(stepKind.p2mWrite, g) !== 0) return -errno.ENOMEM;
  const target = order / 9;
  const { slots } = h.tables;

  // 3. walk, allocating empty tables; stop early on a bigger leaf
  let table = d.r.p2mRoot as TableIndex;
  let level = ROOT_LEVEL;
  let index = table * SLOTS_PER_TABLE + tableOffset(g, level);
  let old = load(slots, index);
  while (level > target) {
    if (old === 0) {
      const fresh = p2mAllocTable(h, d);
      if (fresh === 0) return -errno.ENOMEM;
      step(stepKind.ptWrite, index);
      publish();
      store(slots, index, makeMiddle(fresh));
      table = fresh;
    } else if ((slotLow(old) & SLOT_SP) !== 0) break;
    else table = slotFrame(old) as TableIndex;
    level--;
    index = table * SLOTS_PER_TABLE + tableOffset(g, level);
    old = load(slots, index);
  }

  // 5. the old leaf is bigger: split it aside and link it with one store
  if (level > target) {
    const rc = splitLeaf(h, d, index, old, level, target, g);
    if (rc !== 0) return rc;
    while (level > target) {
      table = slotFrame(load(slots, index)) as TableIndex;
      level--;
      index = table * SLOTS_PER_TABLE + tableOffset(g, level);
    }
    old = load(slots, index);
  }
  return replaceLeaf(h, d, g, order, index, old, leafSlot(m, level, type, access), level, type);
}

/** Steps 6…11: the slot at its final level gets its new value. */
function replaceLeaf(
  h: Host,
  d: Domain,
  g: number,
  order: Order,
  index: number,
  old: number,
  fresh: number,
  level: number,
  type: number,
): number {
  const oldIsTable = level > 0 && old !== 0 && (slotLow(old) & SLOT_SP) === 0;
  const oldPresent = oldIsTable || (slotLow(old) & PRESENT) !== 0;
  // 6. nothing to tell the IOMMU iff frame and device rights stay what they are
  const oldRights = oldIsTable ? -1 : deviceRights(d, old);
  const newRights = deviceRights(d, fresh);
  const modified = !(oldRights === newRights && slotFrame(old) === slotFrame(fresh) && fresh !== 0);

  // 7. references of foreign frames, then the one store
  if (level === 0) {
    const rc = foreignReferences(h, d, old, fresh);
    if (rc !== 0) return rc;
  }
  step(stepKind.ptWrite, index);
  publish();
  store(h.tables.slots, index, fresh);
  h.counters.add(C_SET);

  // 8.
  const last = g + 2 ** order - 1;
  if (type !== p2mType.invalid && last > d.r.maxMappedPfn) d.r.maxMappedPfn = last;

  // 9. an entry that was not present is cached nowhere
  if (oldPresent) syncDomain(h, d);

  // 10.
  const rc = modified && d.has('iommu') ? updateIommu(h, d, g, order, fresh, newRights, oldPresent) : 0;

  // 11. last: nobody may still walk the tables this leaf replaced
  if (oldIsTable) {
    p2mTlbFlushSync(h, d);
    freeSubtree(h, d, slotFrame(old) as TableIndex, level - 1);
  }
  return rc;
}

function updateIommu(
  h: Host,
  d: Domain,
  g: number,
  order: Order,
  fresh: number,
  rights: number,
  oldPresent: boolean,
): number {
  const pages = 2 ** order;
  if (d.has('hapPtShare')) {
    if (!h.iommu.dontFlush) {
      iommuIotlbFlush(h, d, g, pages, (rights !== 0 ? FLUSHF_added : 0) | (oldPresent ? FLUSHF_modified : 0));
    }
    return 0;
  }
  if (!d.has('needSync')) return 0;
  if (rights === 0) {
    // dom0 is not crashed by a failure: its frame must then not be freed. A guest is, and its callers look at that.
    const rc = iommuLegacyUnmap(h, d, g, pages);
    return d.isHardware ? rc : 0;
  }
  const flags = ((rights & 1) !== 0 ? IOMMUF_readable : 0) | ((rights & 2) !== 0 ? IOMMUF_writable : 0);
  iommuLegacyMap(h, d, g, slotFrame(fresh), pages, flags);
  return 0;
}

/**
 * p2m_entry_modify: a foreign leaf holds a reference of its frame, from before it is visible until after it is gone.
 * Whoever takes one away must hold another.
 */
function foreignReferences(h: Host, d: Domain, old: number, fresh: number): number {
  const isForeign = (slot: number): boolean => slot !== 0 && slotType(slotLow(slot)) === p2mType.mapForeign;
  // Dropping the last reference here would free the frame under this lock, which the other domain's locks do not allow.
  if (isForeign(old) && Atomics.load(h.frames.count, slotFrame(old)) < 2) return -errno.EILSEQ;
  if (isForeign(fresh)) {
    const m = slotFrame(fresh) as Mfn;
    const owner = h.frames.ownerOf(m);
    if (owner < 0 || !h.frames.getPage(m, owner as Domid)) return -errno.EBUSY;
    d.r.nrForeign++;
  }
  if (isForeign(old)) {
    d.r.nrForeign--;
    putPage(h, slotFrame(old) as Mfn);
  }
  return 0;
}
/** Frees a table and all below it. Leaves in it are not touched: special ones cannot be here (physmap.ts refuses). */
export function freeSubtree(h: Host, d: Domain, table: TableIndex, level: number): void {
  if (level > 0) {
    for (let i = 0; i < SLOTS_PER_TABLE; i++) {
      const slot = h.tables.read(table, i);
      if (slot !== 0 && (slotLow(slot) & SLOT_SP) === 0) freeSubtree(h, d, slotFrame(slot) as TableIndex, level - 1);
    }
  }
  p2mFreeTable(h, d, table);
}

/** Order of the next chunk: as large as gfn, mfn, the rest and the CPU's capabilities allow. */
function chunkOrder(h: Host, d: Domain, g: number, m: Mfn, todo: number): Order {
  const fits = (order: Order): boolean =>
    todo >= 2 ** order &&
    g % 2 ** order === 0 &&
    (m === INVALID_MFN || m % 2 ** order === 0) &&
    todo % 2 ** order === 0;
  if (d.has('hap') && h.config.ept.superpage1g && fits(18)) return 18;
  if (h.config.ept.superpage2m && fits(9)) return 9;
  return 0;
}

/**
 * Sets 2^order entries from `g`. Goes on after an error and answers the last one, so *partial success is possible* and the
 * caller must repair M2P and counts (XSA-389).
 */
export function p2mSetEntry(h: Host, d: Domain, g: number, m: Mfn, order: Order, type: number, access: number): number {
  h.assert(d.locks.p2m.writeHeld, 'p2m lock held in p2mSetEntry');
  let todo = 2 ** order;
  let at = g;
  let frame: Mfn = m;
  let rc = 0;
  while (todo > 0) {
    const chunk = chunkOrder(h, d, at, frame, todo);
    const result = eptSetEntry(h, d, at, frame, chunk, type, access);
    if (result !== 0) rc = result;
    const pages = 2 ** chunk;
    at += pages;
    todo -= pages;
    if (frame !== INVALID_MFN) frame = (frame + pages) as Mfn;
  }
  return rc;
}
