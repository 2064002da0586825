// A doubly linked list of frames through the frame table's links; head, tail and length live in the owner's record.
// A frame is on at most one list at a time. No lock of its own: the caller holds the lock that protects the list.
import type { Mfn } from './addresses.ts';
import type { FrameTable } from './frame-table.ts';

/** Where a list's head, tail and length live: three consecutive doubles (mfn + 1, mfn + 1, count). */
export class FrameList {
  private readonly frames: FrameTable;
  private readonly cell: Float64Array<SharedArrayBuffer>;
  private readonly at: number;

  constructor(frames: FrameTable, cell: Float64Array<SharedArrayBuffer>, at = 0) {
    this.frames = frames;
    this.cell = cell;
    this.at = at;
  }

  get length(): number {
    return this.cell[this.at + 2] as number;
  }

  get first(): Mfn | -1 {
    return ((this.cell[this.at] as number) - 1) as Mfn | -1;
  }

  append(m: Mfn): void {
    const { frames, cell, at } = this;
    const tail = cell[at + 1] as number;
    frames.next[m] = 0;
    frames.prev[m] = tail;
    if (tail === 0) cell[at] = m + 1;
    else frames.next[tail - 1] = m + 1;
    cell[at + 1] = m + 1;
    cell[at + 2] = (cell[at + 2] as number) + 1;
  }

  prepend(m: Mfn): void {
    const { frames, cell, at } = this;
    const head = cell[at] as number;
    frames.prev[m] = 0;
    frames.next[m] = head;
    if (head === 0) cell[at + 1] = m + 1;
    else frames.prev[head - 1] = m + 1;
    cell[at] = m + 1;
    cell[at + 2] = (cell[at + 2] as number) + 1;
  }

  remove(m: Mfn): void {
    const { frames, cell, at } = this;
    const next = frames.next[m] as number;
    const prev = frames.prev[m] as number;
    if (prev === 0) cell[at] = next;
    else frames.next[prev - 1] = next;
    if (next === 0) cell[at + 1] = prev;
    else frames.prev[next - 1] = prev;
    frames.next[m] = 0;
    frames.prev[m] = 0;
    cell[at + 2] = (cell[at + 2] as number) - 1;
  }

  /** Takes the head; -1 if empty. */
  shift(): Mfn | -1 {
    const m = this.first;
    if (m >= 0) this.remove(m as Mfn);
    return m;
  }

  *[Symbol.iterator](): Generator<Mfn> {
    let at = this.cell[this.at] as number;
    while (at !== 0) {
      yield (at - 1) as Mfn;
      at = this.frames.next[at - 1] as number;
    }
  }
}
