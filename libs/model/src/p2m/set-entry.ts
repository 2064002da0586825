// Writing the p2m: one leaf (ept_set_entry) and the generic loop over chunks (p2m_set_entry). The order of effects is the
// point of this file; it is p2m fact sheet 5, step by step. The caller holds the p2m write lock.
import type { Domain } from '../domain/domain.ts';
import { putPage } from '../domain/memory.ts';
import { type Domid, INVALID_MFN, MAX_GFN, MAX_RAM_GFN, type Mfn, type Order } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { touchesBusFrames } from '../iommu/bus-space.ts';
import { counter } from '../shared-memory/counters.ts';
import { load, publish, store } from '../shared-memory/slots.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { SLOTS_PER_TABLE, type TableIndex } from '../shared-memory/table-pages.ts';
import { deviceRights, updateIommu } from './device-view.ts';
import {
  makeMiddle,
  ROOT_LEVEL,
  SLOT_MISCONFIG,
  SLOT_RIGHTS,
  SLOT_SP,
  slotFrame,
  slotLow,
  slotType,
  tableOffset,
} from './entry.ts';
import { newLeaf } from './leaf-slot.ts';
import { resolveMisconfig } from './misconfig.ts';
import { p2mTlbFlushSync, syncDomain } from './p2m.ts';
import { p2mAllocTable, p2mFreeTable } from './paging-pool.ts';
import { splitLeaf } from './split.ts';
import { isPod, isRam, p2mType } from './types.ts';

const C_SET = counter('p2m.set');

/**
 * Sets the leaf of `order` (0, 9 or 18) at `g`. 0, or -EINVAL (alignment, width), -ENOMEM (paging pool), -EBUSY (a foreign
 * frame cannot be referenced), -EILSEQ (a foreign frame is unmapped by a caller without a reference of its own). Effects in
 * Xen's order: pending changes, table write, CPU flush (deferred), IOMMU (synchronous), old tables.
 */
export function eptSetEntry(h: Host, d: Domain, g: number, m: Mfn, order: Order, type: number, access: number): number {
  const pages = 2 ** order;
  if (order % 9 !== 0 || order > 18 || g % pages !== 0 || (m !== INVALID_MFN && m % pages !== 0)) return -errno.EINVAL;
  if (g < 0 || g + pages - 1 > (isRam(type) || isPod(type) ? MAX_RAM_GFN : MAX_GFN)) return -errno.EINVAL;
  // Bus frames that dom0 manages itself are no gfns of it: an IOMMU entry would be overwritten (dfn = gfn).
  if (d.isHardware && touchesBusFrames(h.config, g, pages)) return -errno.EINVAL;
  if (step(stepKind.p2mWrite, g) !== 0) return -errno.ENOMEM;
  return setLeaf(h, d, g, m, order, type, access);
}

/** Steps 2…5: to the slot at its level. */
function setLeaf(h: Host, d: Domain, g: number, m: Mfn, order: Order, type: number, access: number): number {
  const target = order / 9;
  const { slots } = h.tables;

  // 3. walk, allocating empty tables; stop early on a bigger leaf
  let table = d.r.p2mRoot as TableIndex;
  let level = ROOT_LEVEL;
  let index = table * SLOTS_PER_TABLE + tableOffset(g, level);
  let old = load(slots, index);
  for (;;) {
    const low = slotLow(old);
    if ((low & SLOT_MISCONFIG) !== 0) {
      // 2. what is pending on the path comes first
      const rc = resolveMisconfig(h, d, g);
      return rc < 0 ? rc : setLeaf(h, d, g, m, order, type, access);
    }
    if (level === target || (low & SLOT_SP) !== 0) break;
    if (old === 0) {
      const fresh = p2mAllocTable(h, d);
      if (fresh === 0) return -errno.ENOMEM;
      step(stepKind.ptWrite, index);
      publish();
      store(slots, index, makeMiddle(fresh));
      table = fresh;
    } else table = slotFrame(old) as TableIndex;
    level--;
    index = table * SLOTS_PER_TABLE + tableOffset(g, level);
    old = load(slots, index);
  }

  // 5. the old leaf is bigger: split it aside and link it with one store
  const split = level > target;
  if (split) {
    const rc = splitLeaf(h, d, index, old, level, target, g);
    if (rc !== 0) return rc;
    while (level > target) {
      table = slotFrame(load(slots, index)) as TableIndex;
      level--;
      index = table * SLOTS_PER_TABLE + tableOffset(g, level);
    }
    old = load(slots, index);
  }
  return replaceLeaf(h, d, g, order, index, old, newLeaf(h, d, m, level, type, access), type, split);
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
  type: number,
  split: boolean,
): number {
  const level = order / 9;
  const oldIsTable = level > 0 && old !== 0 && (slotLow(old) & SLOT_SP) === 0;
  const oldPresent = oldIsTable || (slotLow(old) & SLOT_RIGHTS) !== 0;
  // 6. nothing to tell the IOMMU iff frame and device rights stay what they are
  const oldRights = oldIsTable ? -1 : deviceRights(h, d, old);
  const newRights = deviceRights(h, d, fresh);
  const modified = !(oldRights === newRights && slotFrame(old) === slotFrame(fresh) && fresh !== 0);

  // 7. references of foreign frames, then the one store
  if (level === 0) {
    const rc = entryModify(h, d, old, fresh);
    if (rc !== 0) return rc;
  }
  step(stepKind.ptWrite, index);
  publish();
  store(h.tables.slots, index, fresh);
  h.counters.add(C_SET);

  // 8.
  const last = g + 2 ** order - 1;
  if (type !== p2mType.invalid && last > d.r.maxMappedPfn) d.r.maxMappedPfn = last;

  // 9. an entry that was not present is cached nowhere; of a leaf that was split Xen does not ask
  if (oldPresent || split) syncDomain(h, d);

  // 10.
  const rc = modified ? updateIommu(h, d, g, 2 ** order, fresh, newRights, oldPresent) : 0;

  // 11. last: nobody may still walk the tables this leaf replaced
  if (oldIsTable) {
    p2mTlbFlushSync(h, d);
    freeSubtree(h, d, slotFrame(old) as TableIndex, level - 1);
  }
  return rc;
}

/**
 * p2m_entry_modify: what a 4K leaf of these types brings with it. A foreign leaf holds a reference of its frame, from before it
 * is visible until after it is gone; whoever takes one away must hold another. Pages of an ioreq server are counted.
 */
function entryModify(h: Host, d: Domain, old: number, fresh: number): number {
  const oldType = old === 0 ? p2mType.invalid : slotType(slotLow(old));
  const newType = fresh === 0 ? p2mType.invalid : slotType(slotLow(fresh));
  if (oldType === newType && slotFrame(old) === slotFrame(fresh)) return 0;
  // Dropping the last reference here would free the frame under this lock, which the other domain's locks do not allow.
  if (oldType === p2mType.mapForeign && Atomics.load(h.frames.count, slotFrame(old)) < 2) return -errno.EILSEQ;
  if (newType === p2mType.mapForeign) {
    const m = slotFrame(fresh) as Mfn;
    const owner = h.frames.ownerOf(m);
    if (owner < 0 || !h.frames.getPage(m, owner as Domid)) return -errno.EBUSY;
    d.r.nrForeign++;
  } else if (newType === p2mType.ioreqServer) d.r.ioreqEntryCount++;
  if (oldType === p2mType.mapForeign) {
    d.r.nrForeign--;
    putPage(h, slotFrame(old) as Mfn);
  } else if (oldType === p2mType.ioreqServer) d.r.ioreqEntryCount--;
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
