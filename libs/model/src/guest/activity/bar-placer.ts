// dom0 shows the registers of a device in a guest, at gfns that the guest may use for memory, and takes them away again: what vPCI does
// when a guest writes a base address register or its memory-decode bit. In slices of 64 pieces, as the call is.
import type { ActivityContext, ActivityKind, Part } from './activity.ts';
import type { BarPlacerSpec } from './spec.ts';

type Figure = 'placed' | 'taken' | 'refused';
type Context = ActivityContext<BarPlacerSpec, null, Figure>;

class BarPlacer implements Part {
  private readonly c: Context;

  constructor(c: Context) {
    this.c = c;
  }

  open(): string | null {
    const { spec, board, task } = this.c;
    const domid = board.peer(0);
    const { rc } = task.port.call({
      op: 'iomem_permission',
      domid,
      firstMfn: spec.mfn,
      nrMfns: spec.pages,
      allow: true,
    });
    return rc === 0 ? null : `d${domid} may not be given the registers at mfn ${spec.mfn.toString(16)}: ${rc}`;
  }

  slice(now: number): number {
    const { board } = this.c;
    if (board.enough) return Number.POSITIVE_INFINITY;
    board.add(this.map(true) ? 'placed' : 'refused');
    // Holes where they were taken away already are no error of its.
    board.add(this.map(false) ? 'taken' : 'refused');
    board.attempt();
    return now;
  }

  private map(add: boolean): boolean {
    const { spec, board, task } = this.c;
    const domid = board.peer(0);
    for (let done = 0; done < spec.pages; ) {
      const { rc } = task.port.call({
        op: 'memory_mapping',
        domid,
        firstGfn: spec.window + done,
        firstMfn: spec.mfn + done,
        nrMfns: spec.pages - done,
        add,
      });
      if (rc < 0) return false;
      done += rc === 0 ? spec.pages - done : rc;
    }
    return true;
  }

  close(): void {
    this.map(false);
  }
}

export const barPlacer: ActivityKind<BarPlacerSpec, null, Figure> = {
  figures: ['placed', 'taken', 'refused'],
  roles: 1,
  sleepers: [],
  boot: () => null,
  part: (context) => new BarPlacer(context),
};
