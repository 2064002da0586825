// A malicious borrower: it moves pages of its own to places so far apart that each takes page tables, until it has used up the table
// memory that Xen gives its domain. That is its own affair. Then it touches the buffer it was lent, here and there.
import { DOMID_SELF } from '../../frames/addresses.ts';
import { type Call, physmapSpace } from '../../hypercall/calls.ts';
import { errno } from '../../hypercall/errno.ts';
import { pageState } from '../guest-memory.ts';
import type { ActivityContext, ActivityKind, Part } from './activity.ts';
import { Random } from './random.ts';
import type { HoarderSpec } from './spec.ts';

type Figure = 'moved' | 'refused' | 'touched';
type Context = ActivityContext<HoarderSpec, null, Figure>;

/** A page in every 2M takes a table each. */
const STRIDE = 512;
const BATCH = 32;
/** Once there was none left: for what comes back. */
const SMALL_BATCH = 2;
const LARGE = 512;
const REFUSALS = 2;

class TableHoarder implements Part {
  private readonly c: Context;
  private readonly random: Random;
  private next: number;
  private refusals = 0;
  private batch = BATCH;

  constructor(c: Context) {
    this.c = c;
    this.random = new Random(c.task.seed + 11);
    this.next = c.unusedGfn;
  }

  slice(now: number): number {
    if (this.refusals < REFUSALS) this.hoard();
    // Xen gives a table back where a window is closed: it is taken at once.
    else if (this.random.below(4) === 0) this.refusals = 0;
    else this.touch();
    return now;
  }

  private hoard(): void {
    const { task, board } = this.c;
    const pages = task.memory.allocPages(this.batch, pageState.pinned);
    const calls = pages.map((idx): Call => {
      const gpfn = this.next;
      this.next += STRIDE;
      return { op: 'add_to_physmap', domid: DOMID_SELF, space: physmapSpace.gmfn, idx, gpfn, size: 1 };
    });
    const answers = task.port.multicall(calls);
    const refused = answers.filter(({ rc }) => rc === -errno.ENOMEM).length;
    board.add('moved', answers.length - refused);
    board.add('refused', refused);
    if (refused < answers.length) return;
    this.refusals++;
    this.batch = SMALL_BATCH;
  }

  private touch(): void {
    const { task, spec, board } = this.c;
    const start = spec.window + this.random.below(LARGE);
    task.port.call({ op: 'touch', frames: { start, count: 1 } });
    board.add('touched');
  }
}

export const hoarder: ActivityKind<HoarderSpec, null, Figure> = {
  figures: ['moved', 'refused', 'touched'],
  roles: 1,
  sleepers: [],
  boot: () => null,
  part: (context) => new TableHoarder(context),
};
