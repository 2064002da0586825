// The guest pages that a mediator knows as GPU tables, one record each in shared memory: where the page is, which level it has,
// whether writes to it trap, and by which handle the mediator reads it. Page n of the shadow arena belongs to record n.
import { type GpuState, type SharedDoubles, TRACKED_CELLS } from './gpu-memory.ts';

/** `strict`: a write traps (p2m type ioreq_server). `oos`: out of sync, compared at submission. */
export const tableState = { none: 0, strict: 1, oos: 2, retired: 3 } as const;

const cell = { slot: 0, gfn: 1, level: 2, state: 3, handle: 4, users: 5, writes: 6, quiet: 7 } as const;
type Cell = keyof typeof cell;

export class TrackedTables {
  readonly count: number;
  private readonly cells: SharedDoubles;

  constructor(gpu: GpuState) {
    this.cells = gpu.tracked;
    this.count = gpu.config.tables;
  }

  get(table: number, name: Cell): number {
    return this.cells[table * TRACKED_CELLS + cell[name]] as number;
  }

  set(table: number, name: Cell, value: number): void {
    this.cells[table * TRACKED_CELLS + cell[name]] = value;
  }

  isLive(table: number): boolean {
    const state = this.get(table, 'state');
    return state === tableState.strict || state === tableState.oos;
  }

  /** The live record of that guest page, or -1. */
  find(slot: number, gfn: number): number {
    for (let table = 0; table < this.count; table++) {
      if (this.get(table, 'gfn') === gfn && this.get(table, 'slot') === slot && this.isLive(table)) return table;
    }
    return -1;
  }

  /** A free record, now out of sync and used once; -1: none. */
  take(slot: number, gfn: number, level: number, handle: number): number {
    for (let table = 0; table < this.count; table++) {
      if (this.get(table, 'state') !== tableState.none) continue;
      this.cells.set([slot, gfn, level, tableState.oos, handle, 1, 0, 0], table * TRACKED_CELLS);
      return table;
    }
    return -1;
  }

  /** Live tables of a guest. */
  *of(slot: number): Generator<number> {
    for (let table = 0; table < this.count; table++) {
      if (this.get(table, 'slot') === slot && this.isLive(table)) yield table;
    }
  }
}
