// A guest's user space that uses a buffer of another domain's: it writes, and reads what it wrote last. It knows nothing of how the
// buffer came to it, but that a granted one must be mapped first.
import { errnoName } from '../../hypercall/errno.ts';
import { FIRST_BUFFER_REF } from '../mm/shared-buffer.ts';
import { tagOf } from '../task.ts';
import type { ActivityContext, ActivityKind, Part } from './activity.ts';
import { Random } from './random.ts';
import type { BorrowerSpec } from './spec.ts';

type Figure = 'accesses' | 'missing' | 'wrong';
type Context = ActivityContext<BorrowerSpec, null, Figure>;

const GNTMAP_host_map = 2;
const PAGE = 4096;
/** What a load gives where nothing is mapped: all ones. */
const NOTHING = -1;

class BufferUser implements Part {
  private readonly c: Context;
  private readonly random: Random;
  /** What each page must hold; it begins as zeroes. */
  private readonly last: number[];
  private handles: number[] = [];
  private written = 0;

  constructor(c: Context) {
    this.c = c;
    this.random = new Random(c.task.seed + 7);
    this.last = new Array<number>(c.spec.pages).fill(0);
  }

  open(): string | null {
    const { task, spec, sharing, board } = this.c;
    if (sharing.share !== 'grant') return null;
    const ops = this.last.map((_, i) => ({
      hostAddr: (spec.window + i) * PAGE,
      flags: GNTMAP_host_map,
      ref: FIRST_BUFFER_REF + i,
      domid: board.peer(0),
    }));
    const { rc, results = [] } = task.port.call({ op: 'gnttab_map_grant_ref', ops });
    const refused = results.find(({ status }) => status !== 0);
    if (rc !== 0 || refused)
      return `the grants of d${board.peer(0)} cannot be mapped: ${refused?.status ?? errnoName(rc)}`;
    this.handles = results.map(({ handle }) => handle);
    return null;
  }

  /** All of the buffer at once, as a program that draws: one request, however many faults it takes. */
  slice(now: number): number {
    const { board } = this.c;
    if (this.random.below(2) === 0) this.write();
    else this.check();
    board.add('accesses', this.c.spec.pages);
    if (board.wanted > 0) board.attempt();
    return now;
  }

  private write(): void {
    const { task, spec, board } = this.c;
    const tag = tagOf(task.seed, 0, this.written++);
    const { faulted = 0 } = task.port.call({ op: 'store', frames: { start: spec.window, count: spec.pages }, tag });
    board.add('missing', faulted);
    this.last.fill(tag);
  }

  private check(): void {
    const { task, spec, board } = this.c;
    const { tags = [], faulted = 0 } = task.port.call({
      op: 'load',
      frames: { start: spec.window, count: spec.pages },
    });
    board.add('missing', faulted);
    for (const [page, found] of tags.entries()) this.compare(page, found);
  }

  private compare(page: number, found: number): void {
    const { spec, board, violation } = this.c;
    const expected = this.last[page] ?? 0;
    // Where nothing is, nothing was lost yet: it may be lent again, or its lender is gone.
    if (found === expected || (found | 0) === NOTHING) return;
    board.add('wrong');
    this.last[page] = found;
    const gfn = spec.window + page;
    const text = `the guest wrote ${expected.toString(16)} at gfn ${gfn.toString(16)} of the shared buffer, and finds ${found.toString(16)}`;
    violation({ invariant: 'noWriteLost', text, evidence: { gfn, expected, found } });
  }

  close(): void {
    const { task, spec } = this.c;
    const ops = this.handles.map((handle, i) => ({ hostAddr: (spec.window + i) * PAGE, devBusAddr: 0, handle }));
    if (ops.length > 0) task.port.call({ op: 'gnttab_unmap_grant_ref', ops });
    this.handles = [];
  }
}

export const borrower: ActivityKind<BorrowerSpec, null, Figure> = {
  figures: ['accesses', 'missing', 'wrong'],
  roles: 1,
  sleepers: [],
  boot: () => null,
  part: (context) => new BufferUser(context),
};
