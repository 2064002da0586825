// Birth and death of a domain's p2m: the root and its first pool pages; later the foreign entries (with their references)
// and all tables, in slices.
import type { Domain } from '../domain/domain.ts';
import { putPage } from '../domain/memory.ts';
import { type Domid, INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { SLOTS_PER_TABLE, type TableIndex } from '../shared-memory/table-pages.ts';
import { freeDirtyBitmap } from './dirty-bitmap.ts';
import { ROOT_LEVEL, SLOT_SP, slotFrame, slotLow, slotType } from './entry.ts';
import { p2mLock, p2mTlbFlushSync, p2mUnlock, syncDomain } from './p2m.ts';
import { INITIAL_POOL_PAGES, p2mAllocTable, p2mFreeTable, setPagingPool } from './paging-pool.ts';
import { p2mSetEntry } from './set-entry.ts';
import { p2mAccess, p2mType } from './types.ts';

/** 0 or -ENOMEM. The domain is still being built: nobody else knows it. */
export function p2mInit(h: Host, d: Domain): number {
  const rc = setPagingPool(h, d, INITIAL_POOL_PAGES);
  if (rc !== 0) return -errno.ENOMEM;
  const root = p2mAllocTable(h, d);
  if (root === 0) return -errno.ENOMEM;
  d.r.p2mRoot = root;
  return 0;
}

/** Every leaf of a domain's p2m in gfn order; `from` skips what lies below. The caller holds the lock, or is at a safepoint. */
export function* leaves(h: Host, d: Domain, from = 0): Generator<{ gfn: number; slot: number; level: number }> {
  if (d.r.p2mRoot !== 0) yield* below(h, d.r.p2mRoot as TableIndex, ROOT_LEVEL, 0, from);
}

function* below(
  h: Host,
  table: TableIndex,
  level: number,
  base: number,
  from: number,
): Generator<{ gfn: number; slot: number; level: number }> {
  const span = 512 ** level;
  const first = Math.max(0, Math.floor((from - base) / span));
  for (let i = first; i < SLOTS_PER_TABLE; i++) {
    const slot = h.tables.read(table, i);
    if (slot === 0) continue;
    if (level === 0 || (slotLow(slot) & SLOT_SP) !== 0) yield { gfn: base + i * span, slot, level };
    else yield* below(h, slotFrame(slot) as TableIndex, level - 1, base + i * span, from);
  }
}

/** Foreign entries dropped between two preemption checks. */
const FOREIGN_SLICE = 256;

/** Destroy, stage d: gives up the references the domain holds of others' frames. 0 or -ERESTART. */
export function relinquishForeign(h: Host, d: Domain, preempt: () => boolean): number {
  if (d.r.nrForeign === 0) return 0;
  let dropped = 0;
  p2mLock(h, d);
  try {
    for (const { gfn, slot } of leaves(h, d)) {
      if (slotType(slotLow(slot)) !== p2mType.mapForeign) continue;
      const m = slotFrame(slot) as Mfn;
      const owner = h.frames.ownerOf(m) as Domid; // alive: the entry holds a reference
      // A dying guest's p2m lock is below every other domain's page_alloc lock, so the last reference may go under it.
      if (!h.frames.getPage(m, owner)) return -errno.ERESTART;
      const rc = p2mSetEntry(h, d, gfn, INVALID_MFN, 0, p2mType.invalid, p2mAccess.rwx);
      putPage(h, m);
      // The stage is tried again: a table may not go while a leaf in it holds a reference.
      if (rc !== 0) return -errno.ERESTART;
      if (++dropped % FOREIGN_SLICE === 0 && preempt()) return -errno.ERESTART;
    }
    return 0;
  } finally {
    p2mUnlock(h, d);
  }
}

/** Tables freed between two preemption checks. */
const TEARDOWN_SLICE = 1024;

/** Destroy, stage e: all tables and the dirty bitmap back to the pool, then the pool back to the heap. 0 or -ERESTART. Devices are gone by now. */
export function p2mTeardown(h: Host, d: Domain, preempt: () => boolean): number {
  freeDirtyBitmap(h, d);
  if (d.r.p2mRoot !== 0) {
    p2mLock(h, d);
    syncDomain(h, d);
    p2mTlbFlushSync(h, d);
    const done = freeTables(h, d, d.r.p2mRoot as TableIndex, ROOT_LEVEL, { freed: 0, preempt });
    if (done) {
      p2mFreeTable(h, d, d.r.p2mRoot as TableIndex);
      d.r.p2mRoot = 0;
    }
    p2mUnlock(h, d);
    if (!done) return -errno.ERESTART;
  }
  for (;;) {
    const rc = setPagingPool(h, d, 0, TEARDOWN_SLICE);
    if (rc <= 0) return 0;
    if (preempt()) return -errno.ERESTART;
  }
}

/** Frees the children of `table`; false when it stopped half-way (what is freed is unlinked, so it can simply start again). */
function freeTables(
  h: Host,
  d: Domain,
  table: TableIndex,
  level: number,
  slice: { freed: number; preempt: () => boolean },
): boolean {
  for (let i = 0; i < SLOTS_PER_TABLE; i++) {
    const slot = h.tables.read(table, i);
    if (slot === 0 || level === 0 || (slotLow(slot) & SLOT_SP) !== 0) continue;
    const child = slotFrame(slot) as TableIndex;
    if (level > 1 && !freeTables(h, d, child, level - 1, slice)) return false;
    h.tables.write(table, i, 0);
    p2mFreeTable(h, d, child);
    if (++slice.freed % TEARDOWN_SLICE === 0 && slice.preempt()) return false;
  }
  return true;
}
