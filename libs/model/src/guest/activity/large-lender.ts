// A backend that lends a buffer of 2M, 512 frames in one piece, and takes one page of it back because its kernel needs that page: over
// and over, each time in a window of its own. Taking it back may not fail; its kernel writes into the page as soon as it is told that
// nobody else reaches it.
import { errnoName } from '../../hypercall/errno.ts';
import { pageState } from '../guest-memory.ts';
import { GuestPanic } from '../guest-panic.ts';
import { tagOf } from '../task.ts';
import type { ActivityContext, ActivityKind, Part } from './activity.ts';
import { Random } from './random.ts';
import type { LargeLenderSpec } from './spec.ts';

type Figure = 'lent' | 'revocations' | 'revoked' | 'failed';
type Context = ActivityContext<LargeLenderSpec, { readonly base: number }, Figure>;

const LARGE = 512;
/** Of one buffer, one after the other. */
const PAGES_TAKEN = 4;

class LargeLender implements Part {
  private readonly c: Context;
  private readonly random: Random;
  private isOpen = false;
  private written = 0;

  constructor(c: Context) {
    this.c = c;
    this.random = new Random(c.task.seed + 3);
  }

  /** The tables above the buffer's are made now: later the guest may have none to spare. */
  open(): string | null {
    const rc = this.lend();
    return rc < 0 ? `the buffer cannot be lent to d${this.c.board.peer(0)}: ${errnoName(rc)}` : null;
  }

  private lend(): number {
    const { task, spec, data, board } = this.c;
    const domid = board.peer(0);
    const order = spec.order === '2m' ? 9 : 0;
    const { port } = task;
    const opened = port.call({ op: 'lend_open', domid, first: spec.window, count: LARGE, order, onFailure: 0 });
    if (opened.rc !== 0) return opened.rc;
    this.isOpen = true;
    const gfns = { start: data.base, count: LARGE / 2 ** order };
    const { rc } = port.call({ op: 'lend', domid, first: spec.window, gfns, flags: 0, sequence: 0 });
    if (rc === 0) board.add('lent', LARGE);
    return rc;
  }

  slice(now: number): number {
    const { board } = this.c;
    if (board.enough) return Number.POSITIVE_INFINITY;
    // A lend may fail; it is tried again.
    if (!this.isOpen && this.lend() !== 0) {
      this.closeWindow();
      return now;
    }
    for (let i = 0; i < PAGES_TAKEN; i++) this.takeOne(this.random.below(LARGE));
    this.closeWindow();
    board.attempt(PAGES_TAKEN);
    return now;
  }

  private takeOne(page: number): void {
    const { task, spec, data, board, violation } = this.c;
    const first = spec.window + page;
    const call = { op: 'revoke', domid: board.peer(0), first, count: 1, writeProtect: false } as const;
    const { rc, revoked = 0 } = task.port.call(call);
    board.add('revocations');
    board.add('revoked', revoked);
    if (rc !== 0) {
      board.add('failed');
      return;
    }
    const expected = tagOf(task.seed, page, this.written++);
    const frames = { start: data.base + page, count: 1 };
    const [, answer] = task.port.multicall([
      { op: 'store', frames, tag: expected },
      { op: 'load', frames },
    ]);
    const found = answer && 'tags' in answer ? (answer.tags?.[0] ?? -1) : -1;
    if (found === expected) return;
    const text = `page ${page} was taken back, and does not hold what its kernel wrote: ${found.toString(16)}`;
    violation({ invariant: 'noWriteLost', text, evidence: { page, expected, found } });
  }

  private closeWindow(): void {
    const { task, spec, board } = this.c;
    if (this.isOpen) task.port.call({ op: 'lend_close', domid: board.peer(0), first: spec.window });
    this.isOpen = false;
  }

  close(): void {
    this.closeWindow();
  }
}

export const largeLender: ActivityKind<LargeLenderSpec, { readonly base: number }, Figure> = {
  figures: ['lent', 'revocations', 'revoked', 'failed'],
  roles: 1,
  sleepers: [],
  boot: (_, { memory }) => {
    const base = memory.allocRun(pageState.pinned);
    if (base < 0) throw new GuestPanic('no 2M run of memory is free');
    return { base };
  },
  part: (context) => new LargeLender(context),
};
