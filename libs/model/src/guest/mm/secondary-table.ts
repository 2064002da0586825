// A second page table that shows the pages of an address space to somebody else: a GPU's, or a virtual machine's stage 2. Entries
// are changed under the owner's lock; accessors walk without one, keep what they found in a TLB of their own, and are inside an
// access window while they do. A flush returns when no window is open that could have seen an old entry.
import { step, stepKind } from '../../shared-memory/step.ts';
import { type FrameIndex, NO_FRAME } from './frame-pools.ts';
import type { Mm } from './mm.ts';
import { type WaitEdge, waitKind, waitNode } from './wait-graph.ts';

const PRESENT = 1;
const WRITE = 2;
const FLAG_BITS = 2;
/** Words of an accessor before its TLB: window (odd = open), flush generation its TLB is of, the task that accesses. */
const WINDOW = 0;
const SEEN = 1;
const TASK = 2;
const ACCESSOR_WORDS = 3;
const SPINS = 400;
const MAX_ACCESSORS = 32;
/** How much of a window's count a wait for it remembers. */
const WINDOW_MARK = 2 ** 12;

const partsOf = (id: number): { table: number; accessor: number; mark: number } => ({
  table: Math.floor(id / WINDOW_MARK / MAX_ACCESSORS),
  accessor: Math.floor(id / WINDOW_MARK) % MAX_ACCESSORS,
  mark: id % WINDOW_MARK,
});

export interface SecondaryShape {
  readonly name: string;
  readonly entries: number;
  readonly accessors: number;
  /** The page that an entry shows, -1: none. */
  readonly pageOf: (entry: number) => number;
}

/** One entry as an onlooker sees it. */
export interface SecondaryEntry {
  readonly entry: number;
  readonly page: number;
  readonly frame: FrameIndex;
  readonly writable: boolean;
}

export const secondaryBytes = (entries: number, accessors: number): number =>
  (1 + entries + accessors * (ACCESSOR_WORDS + entries)) * 4;

export class SecondaryTable {
  readonly shape: SecondaryShape;
  private readonly mm: Mm;
  /** Its place among the kernel's secondary tables, the same in every task. */
  private readonly number: number;
  /** Flush generation, entries, accessors. */
  private readonly words: Int32Array<SharedArrayBuffer>;
  /** What the last access found or left there. */
  tag = 0;

  constructor(mm: Mm, buffer: SharedArrayBuffer, byteOffset: number, shape: SecondaryShape) {
    this.mm = mm;
    this.shape = shape;
    this.words = new Int32Array(buffer, byteOffset, secondaryBytes(shape.entries, shape.accessors) / 4);
    this.number = mm.secondaries.length;
    mm.secondaries.push(this);
  }

  private accessorAt(accessor: number): number {
    return 1 + this.shape.entries + accessor * (ACCESSOR_WORDS + this.shape.entries);
  }

  map(entry: number, frame: FrameIndex, writable: boolean): void {
    step(stepKind.ptWrite, entry);
    Atomics.store(this.words, 1 + entry, (frame << FLAG_BITS) | (writable ? WRITE : 0) | PRESENT);
  }

  /** The entry's frame; NO_FRAME: not present. */
  frameOf(entry: number): FrameIndex {
    const word = Atomics.load(this.words, 1 + entry);
    return (word & PRESENT) === 0 ? NO_FRAME : ((word >> FLAG_BITS) as FrameIndex); // stored by map()
  }

  list(): SecondaryEntry[] {
    const found: SecondaryEntry[] = [];
    for (let entry = 0; entry < this.shape.entries; entry++) {
      const word = Atomics.load(this.words, 1 + entry);
      if ((word & PRESENT) === 0) continue;
      const frame = (word >> FLAG_BITS) as FrameIndex; // stored by map()
      found.push({ entry, page: this.shape.pageOf(entry), frame, writable: (word & WRITE) !== 0 });
    }
    return found;
  }

  /** Clears entries [first, end); answers whether any was present. A flush must follow before anything is given away. */
  zap(first: number, end: number): boolean {
    let any = false;
    for (let entry = first; entry < end; entry++) {
      if ((Atomics.load(this.words, 1 + entry) & PRESENT) === 0) continue;
      step(stepKind.ptWrite, entry);
      Atomics.store(this.words, 1 + entry, 0);
      any = true;
    }
    return any;
  }

  /** Waits for the accessors that may still use what was zapped, and empties their TLBs. Spins: never sleeps. */
  flush(): void {
    step(stepKind.cpuFlush, 0);
    Atomics.add(this.words, 0, 1);
    for (let accessor = 0; accessor < this.shape.accessors; accessor++) {
      const index = this.accessorAt(accessor) + WINDOW;
      const open = Atomics.load(this.words, index);
      if ((open & 1) !== 0) this.waitForClose(accessor, index, open);
    }
  }

  private waitForClose(accessor: number, index: number, open: number): void {
    const closed = (): boolean => Atomics.load(this.words, index) !== open;
    for (let i = 0; i < SPINS; i++) if (closed()) return;
    const id = (this.number * MAX_ACCESSORS + accessor) * WINDOW_MARK + (open % WINDOW_MARK);
    this.mm.locks.waitFor(waitNode(waitKind.window, id), this.words, index, closed, false);
  }

  /** The task that is in the access window which `id` was made for; none if it has closed. */
  static windowHolders(tables: readonly SecondaryTable[], id: number): readonly WaitEdge[] {
    const { table, accessor, mark } = partsOf(id);
    const found = tables[table];
    if (!found) return [];
    const at = found.accessorAt(accessor);
    if (Atomics.load(found.words, at + WINDOW) % WINDOW_MARK !== mark) return [];
    return [{ to: waitNode(waitKind.task, found.words[at + TASK] as number), why: 'is left by' }];
  }

  static windowName(tables: readonly SecondaryTable[], id: number): string {
    const { table, accessor } = partsOf(id);
    return `the access of ${tables[table]?.shape.name} (${accessor})`;
  }

  /** One access of `accessor` to what an entry shows. False: not present, or no right: a fault. */
  access(accessor: number, entry: number, write: boolean, tag: number): boolean {
    const at = this.accessorAt(accessor);
    this.words[at + TASK] = this.mm.task;
    Atomics.add(this.words, at + WINDOW, 1);
    const tlb = at + ACCESSOR_WORDS;
    const generation = Atomics.load(this.words, 0);
    if (this.words[at + SEEN] !== generation) {
      this.words.fill(0, tlb, tlb + this.shape.entries);
      this.words[at + SEEN] = generation;
    }
    const needed = PRESENT | (write ? WRITE : 0);
    let word = this.words[tlb + entry] as number;
    if ((word & needed) !== needed) {
      step(stepKind.hwWalk, entry);
      word = Atomics.load(this.words, 1 + entry);
      this.words[tlb + entry] = word;
    }
    const allowed = (word & needed) === needed;
    if (allowed) this.reach(entry, (word >> FLAG_BITS) as FrameIndex, write, tag); // stored by map()
    Atomics.add(this.words, at + WINDOW, 1);
    Atomics.notify(this.words, at + WINDOW);
    return allowed;
  }

  private reach(entry: number, frame: FrameIndex, write: boolean, tag: number): void {
    step(stepKind.dma, frame);
    this.judge(entry, frame, write);
    if (write) this.mm.frames.setTag(frame, tag);
    this.tag = this.mm.frames.tag(frame);
  }

  /** A pinned page may outlive its place in the address space; nothing else may be reached any more. */
  private judge(entry: number, frame: FrameIndex, write: boolean): void {
    const { frames } = this.mm;
    const page = this.shape.pageOf(entry);
    const shown = frames.pageOf(frame);
    if (shown === page || (shown < 0 && frames.pins(frame) > 0)) return;
    const now = frames.isFree(frame) ? 'is free' : shown < 0 ? 'has been taken away' : `shows page ${shown}`;
    const text = `${this.shape.name} ${write ? 'writes' : 'reads'} page ${page} in frame ${frame}, which ${now}`;
    this.mm.platform.violation({ invariant: 'noAccessAfterInvalidate', text, evidence: { page, frame, shown } });
  }
}
