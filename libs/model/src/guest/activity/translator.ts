// A guest on whose gfns two things happen at once: one vCPU has Xen copy into them (GNTTABOP_copy between its own pages), so that Xen
// translates them; the other one changes what is behind them.
//
//   role 0   copies
//   role 1   gives the pages up and takes them back, in another order; with a window: moves pages of the guest to it
import { DOMID_SELF } from '../../frames/addresses.ts';
import { type Call, physmapSpace } from '../../hypercall/calls.ts';
import { pageState } from '../guest-memory.ts';
import { tagOf } from '../task.ts';
import type { ActivityContext, ActivityKind, Part } from './activity.ts';
import { Random } from './random.ts';
import type { TranslatorSpec } from './spec.ts';

type Figure = 'copies' | 'copied' | 'changes' | 'refused';
interface Pages {
  /** Where copies come from. */
  readonly source: number;
  readonly targets: readonly number[];
  /** To be moved to the window, one after the other. */
  readonly spare: readonly number[];
}
type Context = ActivityContext<TranslatorSpec, Pages, Figure>;

const LENGTH = 8;
/** Each is gone once it is moved: what is over it later takes it out of the address space. */
const SPARE = 2048;
/** In one request. */
const MOVES = 4;

class Copier implements Part {
  private readonly c: Context;
  private written = 0;

  constructor(c: Context) {
    this.c = c;
  }

  slice(now: number): number {
    const { task, data, board } = this.c;
    if (board.enough) return Number.POSITIVE_INFINITY;
    const ops = data.targets.map((destFrame) => ({
      sourceDomid: DOMID_SELF,
      sourceFrame: data.source,
      sourceOffset: 0,
      destDomid: DOMID_SELF,
      destFrame,
      destOffset: 0,
      length: LENGTH,
      flags: 0,
    }));
    const tag = tagOf(task.seed, data.source, this.written++);
    task.port.call({ op: 'store', frames: { start: data.source, count: 1 }, tag });
    const { statuses = [] } = task.port.call({ op: 'gnttab_copy', ops });
    board.add('copies', ops.length);
    board.add('copied', statuses.filter((status) => status === 0).length);
    board.attempt(ops.length);
    return now;
  }
}

class Changer implements Part {
  private readonly c: Context;
  private readonly random: Random;
  private moved = 0;

  constructor(c: Context) {
    this.c = c;
    this.random = new Random(c.task.seed + 5);
  }

  slice(now: number): number {
    const { task, data, board, spec } = this.c;
    if (board.enough) return Number.POSITIVE_INFINITY;
    const calls = spec.window > 0 ? this.moves() : this.balloon();
    const answers = calls.length > 0 ? task.port.multicall(calls) : [];
    const expected = spec.window > 0 ? 0 : data.targets.length;
    const refused = answers.filter(({ rc }) => rc !== expected).length;
    board.add('changes', answers.length - refused);
    board.add('refused', refused);
    return now;
  }

  /** The frames come back behind other gfns than they went from. */
  private balloon(): readonly Call[] {
    const { targets } = this.c.data;
    const turn = 1 + this.random.below(targets.length - 1);
    const frames = { frames: Uint32Array.from(targets, (_, i) => targets[(i + turn) % targets.length] ?? 0) };
    return [
      { op: 'decrease_reservation', domid: DOMID_SELF, order: 0, extents: { frames: Uint32Array.from(targets) } },
      { op: 'populate_physmap', domid: DOMID_SELF, order: 0, memFlags: 0, extents: frames },
    ];
  }

  /** What lies at the window is given back to the host, if it is RAM. */
  private moves(): readonly Call[] {
    const { spare, targets } = this.c.data;
    const left = Math.min(MOVES, spare.length - this.moved);
    const gpfns = Array.from({ length: left }, () => targets[this.random.below(targets.length)] ?? 0);
    const calls = gpfns.map((gpfn, i): Call => {
      const idx = spare[this.moved + i] ?? 0;
      return { op: 'add_to_physmap', domid: DOMID_SELF, space: physmapSpace.gmfn, idx, gpfn, size: 1 };
    });
    this.moved += gpfns.length;
    return calls;
  }
}

export const translator: ActivityKind<TranslatorSpec, Pages, Figure> = {
  figures: ['copies', 'copied', 'changes', 'refused'],
  roles: 2,
  sleepers: [],
  boot: ({ pages, window }, { memory }) => {
    const own = memory.allocPages(1 + (window > 0 ? SPARE : pages), pageState.pinned);
    const [source = 0, ...rest] = own;
    const targets = window > 0 ? Array.from({ length: pages }, (_, i) => window + i) : rest;
    return { source, targets, spare: window > 0 ? rest : [] };
  },
  part: (context, role) => (role === 0 ? new Copier(context) : new Changer(context)),
};
