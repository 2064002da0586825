// Memory lending as proposed on xen-devel in March 2026 (lending fact sheet; nothing of it is in Xen, so numbers and names are ours):
// a lender opens a window in a borrower, lends pages of its own into it, revokes them whenever its memory management says so, is told
// of the borrower's faults, and answers them by lending again or by giving up.
import type { Domain } from '../domain/domain.ts';
import type { Host } from '../host.ts';
import { ANY_SEQUENCE, failPage, lendExtents, sequenceAt } from '../lending/lend.ts';
import { takeFaults } from '../lending/lend-fault.ts';
import { beginClose, beginWindow, closeSlice, fillWindow } from '../lending/open-window.ts';
import { extentsPerHold, mayRevoke, revokeSlice } from '../lending/revoke.ts';
import { eventsSeen, onFailure as failures, windowAt } from '../lending/window.ts';
import { type CallOf, extentAt, extentCount } from './calls.ts';
import { extentsOk, isCount, isFrame, isPrivileged, isRun } from './checks.ts';
import { blocked, type Caller, type ContinuationState, done, goOn, type Outcome, rc } from './continuation.ts';
import { underDomctlLock } from './domctl.ts';
import { errno } from './errno.ts';

/** Pages are lent without the right to write: a write faults (write-back of DAX files). */
export const LEND_readonly = 1;
/** `sequence` counts: the lender looked its pages up after that, and with no lock of its own. */
export const LEND_check_sequence = 2;

/** Faults that one call tells. */
const MAX_FAULTS = 256;

/** A lender is the control domain, or was made the borrower's device model by it (set_target). */
const mayLendTo = (caller: Caller, d: Domain): boolean =>
  isPrivileged(caller) ||
  (caller.domain.r.target === d.domid + 1 && caller.domain.r.targetIncarnation === d.r.incarnation);

const borrowerOf = (h: Host, id: unknown): Domain | null => (isCount(id) ? h.domain(id) : null);

/** 0; -ESRCH; -EPERM without the right; -EINVAL self; -ENOMEM, -EBUSY, -EOPNOTSUPP, -EXDEV: see open-window.ts. */
export function lendOpen(h: Host, caller: Caller, call: CallOf<'lend_open'>, state: ContinuationState | null): Outcome {
  const d = borrowerOf(h, call.domid);
  if (!d) return rc(-errno.ESRCH);
  if (!mayLendTo(caller, d)) return rc(-errno.EPERM);
  const { first, count, order, onFailure } = call;
  const { zeroPage, fault } = failures;
  if (!isFrame(first) || !isRun(first, count) || (onFailure !== zeroPage && onFailure !== fault)) {
    return rc(-errno.EINVAL);
  }
  if (!state) {
    const begun = beginWindow(h, d, caller.domain, { first, count, order, onFailure });
    if (begun !== 0) return rc(begun);
  }
  for (let at = state?.at ?? 0; ; ) {
    const next = fillWindow(h, d, caller.domain, first, at);
    if (next < 0) {
      // What was made of it goes; nothing was lent there yet.
      closeWhole(h, caller, d, first);
      return rc(next);
    }
    if (next >= count) return rc(0);
    at = next;
    if (caller.preempt()) return goOn({ at });
  }
}

function closeWhole(h: Host, caller: Caller, d: Domain, first: number): void {
  const window = windowAt(d, first);
  if (!window || !beginClose(h, d, window, (w) => w.isOf(caller.domain) && w.first === first)) return;
  while (closeSlice(h, d, window));
}

/** Revokes everything in the window, and the window. -ENOENT: the caller has none that begins there. */
export function lendClose(
  h: Host,
  caller: Caller,
  call: CallOf<'lend_close'>,
  state: ContinuationState | null,
): Outcome {
  const d = borrowerOf(h, call.domid);
  if (!d) return rc(-errno.ESRCH);
  if (!isFrame(call.first)) return rc(-errno.EINVAL);
  // A window that is being closed shrinks from its beginning.
  const first = state?.at ?? call.first;
  const window = windowAt(d, first);
  const mine = window && beginClose(h, d, window, (w) => w.isOf(caller.domain) && w.first === first);
  // A resumed call may find it closed by somebody's death.
  if (!mine) return rc(state ? 0 : -errno.ENOENT);
  while (closeSlice(h, d, window)) if (caller.preempt()) return goOn({ at: window.first });
  return rc(0);
}

/**
 * `done`: pages lent, all of them if rc is 0. What is lent under one hold of the lock (policy `lock`) is lent as a whole or not at all.
 */
export function lend(h: Host, caller: Caller, call: CallOf<'lend'>, state: ContinuationState | null): Outcome {
  const d = borrowerOf(h, call.domid);
  if (!d) return rc(-errno.ESRCH);
  if (!mayLendTo(caller, d)) return rc(-errno.EPERM);
  const { first, gfns, flags, sequence } = call;
  if (!extentsOk(gfns)) return rc(-errno.EFAULT);
  if (!isFrame(first) || !isCount(flags) || flags > (LEND_readonly | LEND_check_sequence) || !isCount(sequence)) {
    return rc(-errno.EINVAL);
  }
  const total = extentCount(gfns);
  if (total === 0 || !isRun(first, total)) return rc(-errno.EINVAL);
  const window = windowAt(d, first);
  const pages = 2 ** (window?.order ?? 0);
  // Before a list is made of it: no window is that long.
  if (!window || first + total * pages - 1 > window.last) return rc(-errno.ENOENT);
  const wanted = (flags & LEND_check_sequence) !== 0 ? sequence : ANY_SEQUENCE;
  const readonly = (flags & LEND_readonly) !== 0;
  const perHold = extentsPerHold(h);
  for (let at = state?.at ?? 0; ; ) {
    const end = Math.min(total, at + perHold);
    const slice: number[] = [];
    for (let i = at; i < end; i++) slice.push(extentAt(gfns, i, window.order));
    const result = slice.every(isFrame)
      ? lendExtents(h, caller.domain, d, first + at * pages, slice, readonly, wanted)
      : -errno.EINVAL;
    if (result !== 0) return done({ rc: result, done: at * pages });
    at = end;
    if (at === total) return done({ rc: 0, done: total * pages });
    if (caller.preempt()) return goOn({ at });
  }
}

/**
 * Never fails for what the caller has lent: 0, whether or not any of it is there; `revoked` says how many pages were. -ESRCH: no such
 * domain or no such window, so nothing of the caller's is there; -EPERM: another lender's window.
 */
export function revoke(h: Host, caller: Caller, call: CallOf<'revoke'>, state: ContinuationState | null): Outcome {
  const d = borrowerOf(h, call.domid);
  if (!d) return rc(-errno.ESRCH);
  const { first, count, writeProtect } = call;
  if (!isFrame(first) || !isCount(count) || count === 0 || !isRun(first, count) || typeof writeProtect !== 'boolean') {
    return rc(-errno.EINVAL);
  }
  const last = first + count - 1;
  if (!state) {
    const refused = mayRevoke(h, caller.domain, d, first, last);
    if (refused !== 0) return rc(refused);
  }
  let revoked = state?.values?.[0] ?? 0;
  for (let at = state?.at ?? first; ; ) {
    const { next, pages, rc: result } = revokeSlice(h, caller.domain, d, at, last, writeProtect);
    revoked += pages;
    if (result !== 0) return done({ rc: result, revoked });
    if (next > last) return done({ rc: 0, revoked });
    at = next;
    if (caller.preempt()) return goOn({ at, values: [revoked] });
  }
}

/** Faults of the caller's borrowers that it has not been told of; with `wait` the call blocks until there is one. */
export function lendFaults(h: Host, caller: Caller, call: CallOf<'lend_faults'>): Outcome {
  if (typeof call.wait !== 'boolean') return rc(-errno.EFAULT);
  const seen = eventsSeen(caller.domain);
  const faults = takeFaults(h, caller.domain, MAX_FAULTS);
  if (faults.length === 0 && call.wait) return blocked({ on: 'lend', domid: caller.domain.domid, seen }, null);
  return done({ rc: 0, faults });
}

/** The window's sequence number at a gfn, to look a page up with. */
export function lendSequence(h: Host, caller: Caller, call: CallOf<'lend_sequence'>): Outcome {
  const d = borrowerOf(h, call.domid);
  if (!d) return rc(-errno.ESRCH);
  if (!isFrame(call.gfn)) return rc(-errno.EINVAL);
  const sequence = sequenceAt(h, caller.domain, d, call.gfn);
  return sequence < 0 ? rc(sequence) : done({ rc: 0, sequence });
}

/** The page at `gfn` is lost: zeroes or a fault for the borrower, as its window says. */
export function lendFail(h: Host, caller: Caller, call: CallOf<'lend_fail'>): Outcome {
  const d = borrowerOf(h, call.domid);
  if (!d) return rc(-errno.ESRCH);
  return rc(isFrame(call.gfn) ? failPage(h, caller.domain, d, call.gfn) : -errno.EINVAL);
}

/** domctl set_target: `domid` may act on `target` as its device model does. */
export function setTarget(h: Host, caller: Caller, call: CallOf<'set_target'>): Outcome {
  if (!isPrivileged(caller)) return rc(-errno.EPERM);
  const d = borrowerOf(h, call.domid);
  const target = borrowerOf(h, call.target);
  if (!d || !target) return rc(-errno.ESRCH);
  if (d === target || d.r.target !== 0) return rc(-errno.EINVAL);
  return underDomctlLock(h, null, () => {
    d.r.target = target.domid + 1;
    d.r.targetIncarnation = target.r.incarnation;
    return rc(0);
  });
}
