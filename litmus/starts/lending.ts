// A domain that lends a page of its memory to another one, and what its kernel remembers. (Memory lending is a proposal; nothing of
// it is in Xen.)
import type { Setup, World } from '#explore/world';
import type { Mfn } from '#model/frames/addresses';
import { onFailure } from '#model/lending/window';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';
import { p2mType } from '#model/p2m/types';
import { step, stepKind } from '#model/shared-memory/step';

/** Of the borrower: where the page is lent. */
export const WINDOW = 520;
/** Of the lender: the page, and the page in which its kernel keeps whether that backs the lent object. */
export const PAGE = 512;
const PAGE_TABLE = 513;
/** What the lender's kernel writes to a page that it uses for itself. */
const PRIVATE = 99;

export type Lending = { readonly lender: number; readonly borrower: number };

/** A window that is open; with `lent` the page is lent already. */
export function startLending(s: Setup, lent: boolean): Lending {
  const lender = s.guest({ ram: [{ gfn: PAGE, pages: 2 }] });
  const borrower = s.guest({ ram: [{ gfn: 512, pages: 1 }] });
  s.expect(s.call(0, { op: 'set_target', domid: lender, target: borrower }).rc, 0, 'set_target');
  const window = { domid: borrower, first: WINDOW, count: 1, order: 0, onFailure: onFailure.zeroPage };
  s.expect(s.call(lender, { op: 'lend_open', ...window }).rc, 0, 'lend_open');
  s.call(lender, { op: 'store', frames: { start: PAGE_TABLE, count: 1 }, tag: 1 });
  if (lent) s.expect(lend(s, { lender, borrower }, 0, 0), 0, 'lend');
  return { lender, borrower };
}

export const lend = (w: World, { lender, borrower }: Lending, flags: number, sequence: number): number =>
  w.call(lender, { op: 'lend', domid: borrower, first: WINDOW, gfns: { start: PAGE, count: 1 }, flags, sequence }).rc;

export const sequenceOf = (w: World, { lender, borrower }: Lending): number =>
  w.call(lender, { op: 'lend_sequence', domid: borrower, gfn: WINDOW }).sequence ?? 0;

export const revoke = (w: World, { lender, borrower }: Lending): void =>
  void w.call(lender, { op: 'revoke', domid: borrower, first: WINDOW, count: 1, writeProtect: false });

/** The lender's kernel walks its page table: does the page back the object? */
export const backsObject = (w: World, { lender }: Lending): boolean =>
  w.call(lender, { op: 'load', frames: { start: PAGE_TABLE, count: 1 } }).tags?.[0] === 1;

/** The lender's kernel takes the page out of its page table: nobody finds it there any more. */
export const takeOut = (w: World, { lender }: Lending): void =>
  void w.call(lender, { op: 'store', frames: { start: PAGE_TABLE, count: 1 }, tag: 0 });

/** … and, when it has been revoked, uses it for something else. */
export const reuse = (w: World, { lender }: Lending): void =>
  void w.call(lender, { op: 'store', frames: { start: PAGE, count: 1 }, tag: PRIVATE });

export const isReused = (w: World, m: Mfn): boolean => Atomics.load(w.host.frames.tag, m) === PRIVATE;

/** What is lent was looked up after the last revocation: no page that is something else by now. */
export function judgeWindow(w: World, { borrower }: Lending): void {
  const leaf = new Leaf();
  const m = peekEntry(w.host, w.domain(borrower), WINDOW, leaf);
  const stale = leaf.type === p2mType.lent && isReused(w, m);
  const text = `d${borrower} has mfn ${m.toString(16)} at gfn ${WINDOW.toString(16)}, which its lender has revoked and uses for something else`;
  w.require(!stale, 'mappedFrameHasCurrentSequence', text, { mfn: m });
}

/** Somebody writes to lent memory by its frame number, as a copy does. */
export function writeLent(w: World, m: Mfn): void {
  step(stepKind.write, m);
  const text = `mfn ${m.toString(16)} is written to as lent memory, and its lender's revocation has returned`;
  w.require(!isReused(w, m), 'noAccessAfterRevokeReturns', text, { mfn: m });
}
