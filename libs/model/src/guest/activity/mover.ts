// A guest that asks for one of Xen's own pages at two places at once (XENMAPSPACE_shared_info, from two vCPUs): each call moves it from
// where it is to a gfn that was never used before. It can be at one place only.
import { DOMID_SELF } from '../../frames/addresses.ts';
import { type Call, physmapSpace } from '../../hypercall/calls.ts';
import type { ActivityContext, ActivityKind, Part } from './activity.ts';
import type { MoverSpec } from './spec.ts';

type Figure = 'moves' | 'refused';
type Context = ActivityContext<MoverSpec, null, Figure>;

/** gfns of one vCPU. */
const ROOM = 0x10_000;
/** In one request: the two vCPUs are in Xen at the same time for as long as it takes. */
const BATCH = 8;

class PageMover implements Part {
  private readonly c: Context;
  private next: number;

  constructor(c: Context, role: number) {
    this.c = c;
    this.next = c.unusedGfn + role * ROOM;
  }

  slice(now: number): number {
    const { task, board } = this.c;
    if (board.enough) return Number.POSITIVE_INFINITY;
    const calls = Array.from({ length: BATCH }, (): Call => {
      const gpfn = this.next++;
      return { op: 'add_to_physmap', domid: DOMID_SELF, space: physmapSpace.sharedInfo, idx: 0, gpfn, size: 1 };
    });
    const answers = task.port.multicall(calls);
    const moved = answers.filter(({ rc }) => rc === 0).length;
    board.add('moves', moved);
    board.add('refused', BATCH - moved);
    board.attempt(BATCH);
    return now;
  }
}

export const mover: ActivityKind<MoverSpec, null, Figure> = {
  figures: ['moves', 'refused'],
  roles: 2,
  sleepers: [],
  boot: () => null,
  part: (context, role) => new PageMover(context, role),
};
