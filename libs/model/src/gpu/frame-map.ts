// Which guest frames a mediator has given a bus frame, and how many shadow entries name each: a hash map in shared memory from
// (domain slot, gfn) to (bus frame, users). Written by the mediator's thread alone.
import type { SharedDoubles } from './gpu-memory.ts';

const SLOT_SCALE = 2 ** 37;

export interface MappedFrame {
  readonly slot: number;
  readonly gfn: number;
  readonly bus: number;
  readonly users: number;
}

export class FrameMap {
  /** Doubles for `capacity` (a power of two) places. */
  static doubles(capacity: number): number {
    return capacity * 3 + 1;
  }

  private readonly cells: SharedDoubles;
  private readonly mask: number;

  constructor(cells: SharedDoubles, capacity: number) {
    this.cells = cells;
    this.mask = capacity - 1;
  }

  get size(): number {
    return this.cells[(this.mask + 1) * 3] as number;
  }

  /** A quarter stays empty, so that every search ends soon. */
  get isFull(): boolean {
    return this.size >= (this.mask + 1) * 0.75;
  }

  private home(key: number): number {
    return (Math.imul(key % 2 ** 31, 0x9e3779b1) >>> 8) & this.mask;
  }

  /** Index of the key's place, or of the empty one where it would be. */
  private find(key: number): number {
    let at = this.home(key);
    while (this.cells[at * 3] !== 0 && this.cells[at * 3] !== key) at = (at + 1) & this.mask;
    return at;
  }

  /** The bus frame, or -1. */
  busOf(slot: number, gfn: number): number {
    const at = this.find(slot * SLOT_SCALE + gfn + 1);
    return this.cells[at * 3] === 0 ? -1 : (this.cells[at * 3 + 1] as number);
  }

  /** A new frame without users. Caller: not there yet, not full. */
  add(slot: number, gfn: number, bus: number): void {
    const key = slot * SLOT_SCALE + gfn + 1;
    this.cells.set([key, bus, 0], this.find(key) * 3);
    this.cells[(this.mask + 1) * 3] = this.size + 1;
  }

  /** Changes the users by `delta`; answers how many there are then. */
  use(slot: number, gfn: number, delta: number): number {
    const at = this.find(slot * SLOT_SCALE + gfn + 1) * 3;
    const users = (this.cells[at + 2] as number) + delta;
    this.cells[at + 2] = users;
    return users;
  }

  remove(slot: number, gfn: number): void {
    let hole = this.find(slot * SLOT_SCALE + gfn + 1);
    if (this.cells[hole * 3] === 0) return;
    // Whoever was pushed past the hole moves back into it.
    for (let at = (hole + 1) & this.mask; this.cells[at * 3] !== 0; at = (at + 1) & this.mask) {
      const home = this.home(this.cells[at * 3] as number);
      if (((at - home) & this.mask) < ((at - hole) & this.mask)) continue;
      this.cells.copyWithin(hole * 3, at * 3, at * 3 + 3);
      hole = at;
    }
    this.cells.fill(0, hole * 3, hole * 3 + 3);
    this.cells[(this.mask + 1) * 3] = this.size - 1;
  }

  *frames(): Generator<MappedFrame> {
    for (let at = 0; at <= this.mask; at++) {
      const key = this.cells[at * 3] as number;
      if (key === 0) continue;
      const slot = Math.floor((key - 1) / SLOT_SCALE);
      yield {
        slot,
        gfn: key - 1 - slot * SLOT_SCALE,
        bus: this.cells[at * 3 + 1] as number,
        users: this.cells[at * 3 + 2] as number,
      };
    }
  }
}
