// Revoking: what the lender's memory management calls from a notifier. It cannot fail, allocates nothing, asks nobody, and takes as
// long as its pages and one flush: a borrower can delay it by no more than the lock's queue.
//
//   1  the window's sequence number moves on: what was looked up before may not be lent any more
//   2  leaves become absent, in tables that have been there since the window was opened
//   3  one flush of the CPUs (and of the IOTLB, where devices share the tables); it waits for those in guest mode
//   4  references go; then it returns, and the lender may free or move the pages
//
// Nothing of Xen's is to be waited for: hypercalls never see lent pages, so none holds one (linux-guest fact sheet 4.4, step 4).
import type { Domain } from '../domain/domain.ts';
import type { Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { FLUSHF_modified } from '../iommu/flags.ts';
import { iommuIotlbFlush } from '../iommu/iommu.ts';
import { slotFrame } from '../p2m/entry.ts';
import { p2mLock, p2mUnlock, syncDomain } from '../p2m/p2m.ts';
import { counter } from '../shared-memory/counters.ts';
import { load } from '../shared-memory/slots.ts';
import { absentSlot, eachSlot, isLentSlot, lentSlot, writeSlot } from './lent-leaf.ts';
import { eachLarge, framesOfLarge, isOnDemand, LARGE, splitAtEdges } from './on-demand.ts';
import { dropLent } from './open-window.ts';
import { type LendWindow, windowAt, windowState } from './window.ts';

const C_REVOKED = counter('lend.revoked');
const C_FLUSH = counter('lend.flush');
/** What a revocation must not move. */
const C_ALLOCATIONS = [counter('heap.alloc'), counter('p2m.ptAlloc'), counter('iommu.ptAlloc')] as const;

/** Extents (leaves of the window's size) under one hold of the p2m lock; all of them with the policy `lock: whole-op`. */
export function extentsPerHold(h: Host): number {
  const { p2mLockHold, p2mLockBatch } = h.config.policies;
  return p2mLockHold === 'whole-op' ? Number.POSITIVE_INFINITY : Number(p2mLockBatch);
}

/** 0, -ESRCH: there is no such window any more; -EPERM: it is another's. Only the first slice of a call asks. */
export function mayRevoke(h: Host, lender: Domain, borrower: Domain, first: number, last: number): number {
  p2mLock(h, borrower);
  const window = windowAt(borrower, first, last);
  p2mUnlock(h, borrower);
  if (!window) return -errno.ESRCH;
  return window.isOf(lender) ? 0 : -errno.EPERM;
}

export interface Revoked {
  /** gfn to go on from; beyond `last`: done. */
  readonly next: number;
  /** Pages that were lent until now. */
  readonly pages: number;
  /** 0; -ENOMEM with the policy `lend.tables: on-demand`, and nothing was revoked. */
  readonly rc: number;
}

/**
 * One slice. `writeProtect`: pages stay, writes fault. A 2M leaf goes as a whole, whatever part of it is asked for. When this
 * returns no access by the borrower through these leaves is under way or possible.
 */
export function revokeSlice(
  h: Host,
  lender: Domain,
  borrower: Domain,
  first: number,
  last: number,
  writeProtect: boolean,
): Revoked {
  const before = allocations(h);
  const frames: Mfn[] = [];
  let rc = 0;
  p2mLock(h, borrower);
  const window = windowAt(borrower, first);
  // Closed meanwhile, which revoked everything.
  if (!window?.isOf(lender) || window.state === windowState.closing) {
    p2mUnlock(h, borrower);
    return { next: last + 1, pages: 0, rc };
  }
  const pages = 2 ** window.order;
  const from = first - (first % pages);
  const to = Math.min(last, from + pages * extentsPerHold(h) - 1);
  const end = to - (to % pages) + pages - 1;
  window.moveOn();
  const onDemand = isOnDemand(h, window);
  if (onDemand) rc = splitAtEdges(h, borrower, from, end);
  const large = onDemand && rc === 0 ? clearLarge(h, borrower, from, end, writeProtect, frames) : 0;
  const changed = rc === 0 ? large + clearLeaves(h, borrower, window, from, end, writeProtect, frames) : 0;
  if (changed > 0) {
    syncDomain(h, borrower);
    if (borrower.has('hapPtShare')) iommuIotlbFlush(h, borrower, from, end - from + 1, FLUSHF_modified);
    h.counters.add(C_FLUSH);
  }
  // The flush is carried out here, with the lock let go of.
  p2mUnlock(h, borrower);
  for (const m of frames) dropLent(h, m, pages);
  h.counters.add(C_REVOKED, changed);
  if (rc !== 0) return failed(h, borrower, from, rc);
  h.assert(onDemand || allocations(h) === before, 'a revocation allocates nothing');
  return { next: end + 1, pages: changed, rc: 0 };
}

/** Its lender's kernel has no way out but to stop: it may not go on while the page is there. */
function failed(h: Host, borrower: Domain, g: number, rc: number): Revoked {
  h.platform.violation({
    invariant: 'revokeNeverFails',
    text: `gfn ${g.toString(16)} of d${borrower.domid} cannot be revoked: it lies in a 2M mapping, and there is no table to split that into`,
    evidence: { domid: borrower.domid, gfn: g, rc },
  });
  return { next: g, pages: 0, rc };
}

/** 2M mappings that go as a whole (policy `lend.tables: on-demand`). */
function clearLarge(
  h: Host,
  borrower: Domain,
  first: number,
  last: number,
  writeProtect: boolean,
  frames: Mfn[],
): number {
  let changed = 0;
  eachLarge(h, borrower, first, last, (_g, index, slot) => {
    if (!isLentSlot(slot)) return;
    writeSlot(h, index, writeProtect ? lentSlot(slotFrame(slot) as Mfn, 1, true) : absentSlot(1));
    changed += LARGE;
    if (writeProtect) return;
    frames.push(...framesOfLarge(slot));
    borrower.r.nrLent -= LARGE;
  });
  return changed;
}

function clearLeaves(
  h: Host,
  borrower: Domain,
  window: LendWindow,
  first: number,
  last: number,
  writeProtect: boolean,
  frames: Mfn[],
): number {
  const level = window.order / 9;
  const pages = 2 ** window.order;
  const absent = absentSlot(level);
  let changed = 0;
  eachSlot(h, borrower, first, last, level, (_g, index) => {
    const slot = load(h.tables.slots, index);
    if (!isLentSlot(slot)) return;
    const m = slotFrame(slot) as Mfn;
    const fresh = writeProtect ? lentSlot(m, level, true) : absent;
    if (slot === fresh) return;
    writeSlot(h, index, fresh);
    changed += pages;
    if (writeProtect) return;
    frames.push(m);
    borrower.r.nrLent -= pages;
  });
  return changed;
}

const allocations = (h: Host): number => C_ALLOCATIONS.reduce((sum, index) => sum + h.counters.readOwn(index), 0);
