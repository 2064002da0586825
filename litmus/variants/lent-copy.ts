// Hypercalls that work on lent memory. In the model they find a hole where memory is lent; here are the two other ways.
import type { World } from '#explore/world';
import { putPage } from '#model/domain/memory';
import { p2mReadLock, p2mReadUnlock } from '#model/p2m/p2m';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';
import { type Lending, revoke, WINDOW, writeLent } from '../starts/lending.ts';

/** The type of the entry is not looked at: whatever frame is there is written to. */
export function copyByFrame(w: World, { borrower }: Lending): void {
  const m = peekEntry(w.host, w.domain(borrower), WINDOW, new Leaf());
  if (w.host.frames.valid(m)) writeLent(w, m);
}

/** The frame is counted as in use from the look-up, under the lock, to the end of the copy. */
export function copyCounted(w: World, { borrower, lender }: Lending): void {
  const { host } = w;
  const d = w.domain(borrower);
  p2mReadLock(host, d);
  const m = peekEntry(host, d, WINDOW, new Leaf());
  const counted = host.frames.valid(m) && host.frames.getPage(m, w.domain(lender).domid);
  p2mReadUnlock(host, d);
  if (!counted) return;
  writeLent(w, m);
  putPage(host, m);
}

/** A revocation that returns when nobody is counted any more: one copy at most. */
export function revokeAndWait(w: World, names: Lending): void {
  const { host } = w;
  const m = peekEntry(host, w.domain(names.borrower), WINDOW, new Leaf());
  revoke(w, names);
  if (!host.frames.valid(m)) return;
  const idle = (): boolean => Atomics.load(host.frames.count, m) === 1;
  host.lockTable.waitUntil(host.frames.count, m, () => `copies to or from mfn ${m.toString(16)}`, idle);
}
