// Opening and closing a window. Opening may fail and takes the borrower's table memory; closing, like a revocation, cannot fail: it
// is what remains to be done when a lender or a borrower dies.
import type { Domain } from '../domain/domain.ts';
import { putPage } from '../domain/memory.ts';
import { INVALID_MFN, MAX_GFN, type Mfn, type Order } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { FLUSHF_modified } from '../iommu/flags.ts';
import { iommuIotlbFlush } from '../iommu/iommu.ts';
import { levelOrder, slotFrame } from '../p2m/entry.ts';
import { p2mLock, p2mReadLock, p2mReadUnlock, p2mUnlock, syncDomain } from '../p2m/p2m.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { p2mLogDirtyGlobal } from '../p2m/recalc.ts';
import { eptSetEntry } from '../p2m/set-entry.ts';
import { isHole, p2mAccess, p2mType } from '../p2m/types.ts';
import { load } from '../shared-memory/slots.ts';
import { clearFaults } from './lend-fault.ts';
import { eachSlot, isAbsentSlot, isLentSlot, writeSlot } from './lent-leaf.ts';
import { eachLarge, framesOfLarge, isOnDemand, LARGE, largeOrder } from './on-demand.ts';
import { announce, freeWindow, type LendWindow, windowAt, windowState, windowsOf } from './window.ts';

/** Leaves made or taken away under one hold of the lock. */
const SLICE = 512;

export interface WindowSpec {
  readonly first: number;
  readonly count: number;
  readonly order: Order;
  readonly onFailure: number;
}

const levelOf = (order: Order): number => order / 9;

/** Why `borrower` cannot be lent memory, or 0. */
function refusal(h: Host, borrower: Domain, lender: Domain): number {
  if (borrower === lender) return -errno.EINVAL;
  // A PV guest has no tables of Xen's that a page could silently vanish from.
  if (!borrower.isTranslated || !borrower.has('hap')) return -errno.EOPNOTSUPP;
  if (borrower.dying || lender.dying) return -errno.ESRCH;
  // No live migration of lent memory.
  if (p2mLogDirtyGlobal(borrower) || borrower.r.logDirty !== 0) return -errno.EBUSY;
  if (borrower.has('hapPtShare') && h.config.policies.lendSharedTables === 'refuse') {
    h.platform.printk(
      `d${borrower.domid}: memory cannot be lent by d${lender.domid}: devices walk the CPU's tables, and cannot fault`,
    );
    return -errno.EXDEV;
  }
  return 0;
}

/** Begins a window: 0, -EINVAL (range), -ENOSPC (no room), -EBUSY (something is there), or why the domain cannot borrow. */
export function beginWindow(h: Host, borrower: Domain, lender: Domain, spec: WindowSpec): number {
  const { first, count, order } = spec;
  const pages = 2 ** order;
  if ((order !== 0 && order !== 9) || count === 0 || first % pages !== 0 || count % pages !== 0) return -errno.EINVAL;
  if (first + count - 1 > MAX_GFN) return -errno.EINVAL;
  p2mLock(h, borrower);
  try {
    const refused = refusal(h, borrower, lender);
    if (refused !== 0) return refused;
    const last = first + count - 1;
    if (windowsOf(borrower).some((w) => w.first <= last && first <= w.last)) return -errno.EBUSY;
    const window = freeWindow(borrower);
    if (!window) return -errno.ENOSPC;
    window.open(first, count, order, lender, spec.onFailure);
    return 0;
  } finally {
    p2mUnlock(h, borrower);
  }
}

/**
 * Makes the entries of a window from page `at` on: the page to go on from, the window's size when it is open, or an error, after
 * which the caller closes it. -EBUSY: something is mapped there; -ENOMEM: the borrower has no table memory.
 */
export function fillWindow(h: Host, borrower: Domain, lender: Domain, first: number, at: number): number {
  p2mLock(h, borrower);
  try {
    const window = windowAt(borrower, first);
    if (!window?.isOf(lender) || window.first !== first || window.state !== windowState.opening) return -errno.ESRCH;
    if (borrower.dying) return -errno.ESRCH;
    const pages = 2 ** window.order;
    const end = Math.min(window.count, at + SLICE * pages);
    const leaf = new Leaf();
    for (let i = at; i < end; i += pages) {
      const { lentAbsent } = p2mType;
      const order = isOnDemand(h, window) ? largeOrder(window, first + i) : window.order;
      if (order < 0) continue;
      if (!isFree(h, borrower, first + i, 2 ** order, leaf)) return -errno.EBUSY;
      const rc = eptSetEntry(h, borrower, first + i, INVALID_MFN, order, lentAbsent, p2mAccess.rwx);
      if (rc !== 0) return rc;
    }
    if (end === window.count) window.state = windowState.open;
    return end;
  } finally {
    p2mUnlock(h, borrower);
  }
}

function isFree(h: Host, d: Domain, first: number, pages: number, leaf: Leaf): boolean {
  for (let g = first; g < first + pages; ) {
    peekEntry(h, d, g, leaf);
    if (!isHole(leaf.type) || leaf.mfn !== INVALID_MFN) return false;
    g += 2 ** leaf.order - (g % 2 ** leaf.order);
  }
  return true;
}

/** Nothing can be lent into it any more. False: it is gone, or another's stands in its place. */
export function beginClose(h: Host, borrower: Domain, window: LendWindow, mine: (w: LendWindow) => boolean): boolean {
  p2mLock(h, borrower);
  const found = window.used && mine(window);
  if (found) {
    window.state = windowState.closing;
    window.moveOn();
  }
  p2mUnlock(h, borrower);
  return found;
}

/**
 * Takes the first entries of a closing window away, which shrinks by them. True: more are left; false: it is gone. Frames are let go
 * of after the flush.
 */
export function closeSlice(h: Host, borrower: Domain, window: LendWindow): boolean {
  const held: Mfn[] = [];
  p2mLock(h, borrower);
  if (!window.used || window.state !== windowState.closing) {
    p2mUnlock(h, borrower);
    return false;
  }
  const { first, count, order } = window;
  const level = levelOf(order);
  const pages = Math.min(count, SLICE * 2 ** order);
  const { slots } = h.tables;
  let changed = false;
  eachSlot(h, borrower, first, first + pages - 1, level, (_g, index) => {
    const slot = load(slots, index);
    // What stood in the way of its opening stays.
    if (!isLentSlot(slot) && !isAbsentSlot(slot)) return;
    if (isLentSlot(slot)) {
      changed = true;
      held.push(slotFrame(slot) as Mfn);
      borrower.r.nrLent -= 2 ** levelOrder(level);
    }
    writeSlot(h, index, 0);
  });
  if (isOnDemand(h, window)) {
    eachLarge(h, borrower, first, first + pages - 1, (_g, index, slot) => {
      if (isLentSlot(slot)) {
        changed = true;
        held.push(...framesOfLarge(slot));
        borrower.r.nrLent -= LARGE;
      }
      writeSlot(h, index, 0);
    });
  }
  if (changed) {
    syncDomain(h, borrower);
    if (borrower.has('hapPtShare')) iommuIotlbFlush(h, borrower, first, pages, FLUSHF_modified);
  }
  clearFaults(borrower, first, first + pages - 1);
  if (pages === count) window.remove();
  else window.shrink(pages);
  p2mUnlock(h, borrower);
  for (const m of held) dropLent(h, m, 2 ** order);
  announce(borrower);
  return pages < count;
}

/** Policy `lend.frames`: a lent leaf holds a reference of each frame, or (a mistake to look at) it relies on its lender. */
export const countsLent = (h: Host): boolean => h.config.policies.lendFrames === 'counted';

/** References that a lent leaf held. */
export function dropLent(h: Host, m: Mfn, pages: number): void {
  if (countsLent(h)) letGo(h, m, pages);
}

/** One reference of each frame. Device memory has none. */
export function letGo(h: Host, m: Mfn, pages: number): void {
  for (let i = 0; i < pages; i++) {
    const frame = (m + i) as Mfn;
    if (isCounted(h, frame)) putPage(h, frame);
  }
}

/** RAM, whose references count; device memory may lie inside the frame table too. */
export const isCounted = (h: Host, m: Mfn): boolean => h.frames.valid(m) && h.frames.ownerOf(m) >= 0;

/**
 * A dying domain, as a borrower and as a lender: every window of its is closed. 0 or -ERESTART. In its lender's role it must come
 * before its devices go: their memory may be lent.
 */
export function closeAllWindows(h: Host, d: Domain, preempt: () => boolean, which: 'all' | 'borrowed'): number {
  for (const borrower of h.allDomains()) {
    // Whoever opens one while `d` is not dying yet has opened it when the lock is ours.
    p2mReadLock(h, borrower);
    const windows = windowsOf(borrower);
    p2mReadUnlock(h, borrower);
    for (const window of windows) {
      const mine = (w: LendWindow): boolean => borrower === d || (which === 'all' && w.isOf(d));
      if (!beginClose(h, borrower, window, mine)) continue;
      while (closeSlice(h, borrower, window)) if (preempt()) return -errno.ERESTART;
    }
  }
  return 0;
}
