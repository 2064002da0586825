// Lending: a lender's own pages become visible in a window of a borrower. Each lent leaf holds a reference of its frame, so that
// Xen needs no trust in the lender: a page that it frees without revoking stays allocated until it does.
import type { Domain } from '../domain/domain.ts';
import { mayAccessIomem } from '../domain/iomem.ts';
import { allocDomheap, putAllocRef, putPage } from '../domain/memory.ts';
import { INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { FLUSHF_added, FLUSHF_modified } from '../iommu/flags.ts';
import { iommuIotlbFlush } from '../iommu/iommu.ts';
import { slotFrame } from '../p2m/entry.ts';
import { getGfn, P2M_ALLOC, putGfn } from '../p2m/get-entry.ts';
import { p2mLock, p2mUnlock } from '../p2m/p2m.ts';
import { Leaf } from '../p2m/peek-entry.ts';
import { p2mType } from '../p2m/types.ts';
import { counter } from '../shared-memory/counters.ts';
import { load } from '../shared-memory/slots.ts';
import { clearFaults, injectFault } from './lend-fault.ts';
import { eachSlot, isAbsentSlot, isLentSlot, leafIndex, lentSlot, writeSlot } from './lent-leaf.ts';
import { isOnDemand, lendLarge } from './on-demand.ts';
import { countsLent, letGo } from './open-window.ts';
import { announce, type LendWindow, onFailure, windowAt, windowState } from './window.ts';

const C_LENT = counter('lend.lent');

/** Any sequence number will do: the lender's own lock keeps looking-up and revoking apart. */
export const ANY_SEQUENCE = -1;

/**
 * The frames of one extent of the lender's, each with a reference: the first of them, or an error with none taken. -ENOENT: nothing
 * there; -EPERM: not the lender's own memory (foreign, granted, borrowed, Xen's); -EINVAL: 2M are asked for and these are not 2M.
 */
function takeExtent(h: Host, lender: Domain, g: number, pages: number): Mfn | number {
  const leaf = new Leaf();
  // A page that is populated on demand gets its frame now.
  getGfn(h, lender, g, P2M_ALLOC, leaf);
  try {
    const { mfn, type } = leaf;
    if (type === p2mType.mmioDirect) {
      if (mfn === INVALID_MFN || !mayAccessIomem(lender, mfn, mfn + pages - 1)) return -errno.EPERM;
      return pages > 1 && (leaf.order < 9 || mfn % pages !== 0) ? -errno.EINVAL : mfn;
    }
    if (mfn === INVALID_MFN || !h.frames.valid(mfn)) return -errno.ENOENT;
    if (type !== p2mType.ramRw && type !== p2mType.ramLogdirty) return -errno.EPERM;
    if (pages > 1 && (mfn % pages !== 0 || (lender.isTranslated && leaf.order < 9))) return -errno.EINVAL;
    return takeFrames(h, lender, mfn, pages);
  } finally {
    putGfn(h, lender);
  }
}

function takeFrames(h: Host, lender: Domain, m: Mfn, pages: number): Mfn | number {
  const { frames } = h;
  for (let i = 0; i < pages; i++) {
    const frame = (m + i) as Mfn;
    const lendable =
      frames.valid(frame) && !frames.has(frame, frameFlag.special | frameFlag.podCache | frameFlag.table);
    if (lendable && frames.getPage(frame, lender.domid)) continue;
    for (let j = 0; j < i; j++) putPage(h, (m + j) as Mfn);
    return -errno.EPERM;
  }
  return m;
}

/** The window of `lender` that all of [first, last] lies in, open; or why nothing can be lent there. Borrower's p2m lock held. */
function openWindow(borrower: Domain, lender: Domain, first: number, last: number): LendWindow | number {
  if (borrower.dying) return -errno.ESRCH;
  const window = windowAt(borrower, first, last);
  if (!window) return -errno.ENOENT;
  if (!window.isOf(lender)) return -errno.EPERM;
  return window.state === windowState.open ? window : -errno.EBUSY;
}

/**
 * Lends the extents that begin at `gfns` of the lender, at `at` of the borrower and on. 0, or an error with nothing changed:
 * -EAGAIN: something of the window was revoked since `sequence`; -EEXIST: another page is lent there, revoke it first; -EPERM,
 * -ENOENT, -EINVAL, -EBUSY: window or pages are not so. Lending the same page again may add the right to write.
 */
export function lendExtents(
  h: Host,
  lender: Domain,
  borrower: Domain,
  at: number,
  gfns: ArrayLike<number>,
  readonly: boolean,
  sequence: number,
): number {
  p2mLock(h, borrower);
  const known = openWindow(borrower, lender, at, at);
  p2mUnlock(h, borrower);
  if (typeof known === 'number') return known;
  const pages = 2 ** known.order;
  if (at % pages !== 0) return -errno.EINVAL;
  const taken: Mfn[] = [];
  let rc = 0;
  // One hold of the lender's lock for all of them, let go of before the borrower's is taken.
  if (lender.isTranslated) p2mLock(h, lender);
  for (let i = 0; i < gfns.length && rc === 0; i++) {
    const m = takeExtent(h, lender, gfns[i] as number, pages);
    if (m < 0) rc = m;
    else taken.push(m as Mfn);
  }
  if (lender.isTranslated) p2mUnlock(h, lender);
  if (rc === 0) rc = lendFrames(h, lender, borrower, at, taken, readonly, sequence);
  // What was lent holds its own references.
  for (const m of taken) letGo(h, m, pages);
  if (rc === 0) announce(borrower);
  return rc;
}

/** All or nothing. The caller holds a reference of every frame. */
function lendFrames(
  h: Host,
  lender: Domain,
  borrower: Domain,
  at: number,
  taken: readonly Mfn[],
  readonly: boolean,
  sequence: number,
): number {
  p2mLock(h, borrower);
  try {
    const first = openWindow(borrower, lender, at, at);
    if (typeof first === 'number') return first;
    const pages = 2 ** first.order;
    const last = at + taken.length * pages - 1;
    const window = openWindow(borrower, lender, at, last);
    if (typeof window === 'number') return window;
    if (sequence !== ANY_SEQUENCE && sequence !== window.sequence) return -errno.EAGAIN;
    const level = window.order / 9;
    const conflict = firstConflict(h, borrower, at, last, level, taken);
    if (conflict !== 0) return conflict;
    if (isOnDemand(h, window)) {
      const keep = (m: Mfn, count: number): void => hold(h, lender, borrower, m, count);
      const rc = lendLarge(h, borrower, at, taken, readonly, keep);
      if (rc !== 0) return rc;
    }
    eachSlot(h, borrower, at, last, level, (g, index) => {
      const m = taken[(g - at) / pages] as Mfn; // one frame per slot
      const old = load(h.tables.slots, index);
      // It is lent already: only the right to write may be new, and is taken away by a revocation only.
      const keepsRights = isLentSlot(old) && readonly;
      if (!isLentSlot(old)) hold(h, lender, borrower, m, pages);
      if (!keepsRights) writeSlot(h, index, lentSlot(m, level, readonly));
    });
    if (borrower.has('hapPtShare')) {
      iommuIotlbFlush(h, borrower, at, last - at + 1, FLUSHF_added | FLUSHF_modified);
    }
    clearFaults(borrower, at, last);
    h.counters.add(C_LENT, last - at + 1);
    return 0;
  } finally {
    p2mUnlock(h, borrower);
  }
}

function firstConflict(
  h: Host,
  borrower: Domain,
  first: number,
  last: number,
  level: number,
  taken: readonly Mfn[],
): number {
  const pages = 512 ** level;
  let rc = 0;
  eachSlot(h, borrower, first, last, level, (g, index) => {
    const slot = load(h.tables.slots, index);
    if (isAbsentSlot(slot)) return;
    const same = isLentSlot(slot) && slotFrame(slot) === taken[(g - first) / pages];
    if (!same) rc = -errno.EEXIST;
  });
  return rc;
}

/** The leaf's own references: the caller has one of each frame, so these cannot fail. */
function hold(h: Host, lender: Domain, borrower: Domain, m: Mfn, pages: number): void {
  borrower.r.nrLent += pages;
  if (!countsLent(h)) return;
  for (let i = 0; i < pages; i++) {
    const frame = (m + i) as Mfn;
    if (h.frames.valid(frame) && h.frames.ownerOf(frame) === lender.domid) Atomics.add(h.frames.count, frame, 1);
  }
}

/**
 * The lender cannot give the page at `g` any more: its content is lost. As the window says, the borrower finds a zero page of the
 * lender's, or whoever waits for it gets a fault. 0; -ENOMEM: the lender has no page to spare; or as for lending.
 */
export function failPage(h: Host, lender: Domain, borrower: Domain, g: number): number {
  p2mLock(h, borrower);
  const window = openWindow(borrower, lender, g, g);
  const failure = typeof window === 'number' ? 0 : window.onFailure;
  const pages = typeof window === 'number' ? 1 : 2 ** window.order;
  const at = g - (g % pages);
  if (typeof window !== 'number' && failure === onFailure.fault) injectFault(borrower, at, at + pages - 1);
  p2mUnlock(h, borrower);
  if (typeof window === 'number') return window;
  const rc = failure === onFailure.fault ? 0 : lendZeroes(h, lender, borrower, at, pages);
  announce(borrower);
  return rc;
}

function lendZeroes(h: Host, lender: Domain, borrower: Domain, at: number, pages: number): number {
  p2mLock(h, borrower);
  const index = leafIndex(h, borrower, at, pages > 1 ? 1 : 0);
  const absent = index >= 0 && isAbsentSlot(load(h.tables.slots, index));
  p2mUnlock(h, borrower);
  // Somebody lent a page meanwhile.
  if (!absent) return 0;
  const m = allocDomheap(h, lender, pages > 1 ? 9 : 0);
  if (m < 0) return -errno.ENOMEM;
  const rc = lendFrames(h, lender, borrower, at, [m as Mfn], false, ANY_SEQUENCE);
  // The leaf alone keeps it: revoking it frees it.
  for (let i = 0; i < pages; i++) putAllocRef(h, (m + i) as Mfn);
  return rc === -errno.EEXIST ? 0 : rc;
}

/** The window's sequence number at `g`, to look a page up with; an error as for lending. */
export function sequenceAt(h: Host, lender: Domain, borrower: Domain, g: number): number {
  p2mLock(h, borrower);
  const window = openWindow(borrower, lender, g, g);
  p2mUnlock(h, borrower);
  return typeof window === 'number' ? window : window.sequence;
}
