// The page frames of a kernel, in three pools: system RAM, a GPU's memory, and slots that have nothing behind them until something
// foreign is mapped there (unpopulated-alloc). Per frame: who it belongs to, how many references
// it has (one of the page table, one of each get_user_pages, as struct page's count), how many of those are pins, and its
// content, one 32-bit tag. A frame is free when its last reference goes. Which page shows it is page-table.ts's business.
import type { Mutex } from '../../shared-memory/mutex.ts';
import { step, stepKind } from '../../shared-memory/step.ts';
import type { KernelLocks } from './kernel-locks.ts';
import { type WaitEdge, type WaitGraph, waitKind, waitNode } from './wait-graph.ts';

/** Index of a frame in its kernel: RAM first, then the GPU's memory, then slots. */
export type FrameIndex = number & { readonly __brand: 'FrameIndex' };
export const NO_FRAME = -1 as FrameIndex;
const poolNames = ['ram', 'vram', 'slot'] as const;
export type Pool = (typeof poolNames)[number];

/** Where contents are: by default in the kernel's own shared words; on Xen, behind its gfns. */
export interface FrameContent {
  read(frame: FrameIndex): number;
  write(frame: FrameIndex, tag: number): void;
}

/** Owners beside a page (page + 1). */
const FREE = 0;
/** In use, but no page shows it: on its way, or kept by references after its page was taken away. */
const HIDDEN = -1;

const OWNER = 0;
const REFS = 1;
const PINS = 2;
const TAG = 3;
const LINK = 4;
const FRAME_WORDS = 5;
/** Words before the frames: (head, free) of each pool. */
const HEADER = 2 * poolNames.length;

export type PoolSizes = Readonly<Record<Pool, number>>;

export const frameBytes = ({ ram, vram, slot }: PoolSizes): number => (HEADER + (ram + vram + slot) * FRAME_WORDS) * 4;

export function initFrames(buffer: SharedArrayBuffer, sizes: PoolSizes): void {
  const words = new Int32Array(buffer);
  let first = 0;
  for (const [pool, name] of poolNames.entries()) {
    const end = first + sizes[name];
    words[pool * 2] = end > first ? first + 1 : 0;
    words[pool * 2 + 1] = sizes[name];
    for (; first < end; first++) words[HEADER + first * FRAME_WORDS + LINK] = first + 1 < end ? first + 2 : 0;
  }
}

export class FramePools {
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly sizes: PoolSizes;
  private readonly content: FrameContent | null;
  private readonly mutex: Mutex;
  private readonly locks: KernelLocks;
  private readonly keepers: ((frame: FrameIndex) => readonly WaitEdge[])[] = [];
  private readonly takers: ((frame: FrameIndex) => number)[] = [];

  constructor(
    buffer: SharedArrayBuffer,
    sizes: PoolSizes,
    mutex: Mutex,
    locks: KernelLocks,
    graph: WaitGraph,
    content: FrameContent | null,
  ) {
    this.words = new Int32Array(buffer);
    this.sizes = sizes;
    this.content = content;
    this.mutex = mutex;
    this.locks = locks;
    graph.register(waitKind.references, {
      nameOf: (frame) => `the other references to frame ${frame}`,
      holders: (frame) => this.keepers.flatMap((keeper) => keeper(frame as FrameIndex)), // an id made by waitForReferences
    });
  }

  /** Who holds references beside the page table, for the wait-for graph. */
  registerKeeper(keeper: (frame: FrameIndex) => readonly WaitEdge[]): void {
    this.keepers.push(keeper);
  }

  /** Who took references and can say how many; for the invariants. */
  registerTaker(taker: (frame: FrameIndex) => number): void {
    this.takers.push(taker);
  }
  referencesTaken(frame: FrameIndex): number {
    return this.takers.reduce((sum, taker) => sum + taker(frame), 0);
  }

  get count(): number {
    return ((this.words.length - HEADER) / FRAME_WORDS) | 0;
  }

  poolOf(frame: FrameIndex): Pool {
    if (frame < this.sizes.ram) return 'ram';
    return frame < this.sizes.ram + this.sizes.vram ? 'vram' : 'slot';
  }

  free(pool: Pool): number {
    return this.words[poolNames.indexOf(pool) * 2 + 1] as number;
  }

  private at(frame: FrameIndex, word: number): number {
    return HEADER + frame * FRAME_WORDS + word;
  }
  private read(frame: FrameIndex, word: number): number {
    return Atomics.load(this.words, this.at(frame, word));
  }

  references(frame: FrameIndex): number {
    return this.read(frame, REFS);
  }
  pins(frame: FrameIndex): number {
    return this.read(frame, PINS);
  }
  isFree(frame: FrameIndex): boolean {
    return this.read(frame, OWNER) === FREE;
  }
  /** The page that shows it, or -1. */
  pageOf(frame: FrameIndex): number {
    const owner = this.read(frame, OWNER);
    return owner > 0 ? owner - 1 : -1;
  }
  tag(frame: FrameIndex): number {
    return this.content ? this.content.read(frame) : this.read(frame, TAG);
  }
  setTag(frame: FrameIndex, tag: number): void {
    if (this.content) this.content.write(frame, tag);
    else Atomics.store(this.words, this.at(frame, TAG), tag);
  }

  /** A zeroed frame with one reference that no page shows, or NO_FRAME. */
  alloc(pool: Pool): FrameIndex {
    const head = poolNames.indexOf(pool) * 2;
    if (step(stepKind.frameAlloc, head) !== 0) return NO_FRAME;
    this.mutex.lock();
    const frame = ((this.words[head] as number) - 1) as FrameIndex; // heads hold index + 1
    if (frame !== NO_FRAME) {
      this.words[head] = this.words[this.at(frame, LINK)] as number;
      this.words[head + 1] = this.free(pool) - 1;
      Atomics.store(this.words, this.at(frame, REFS), 1);
      Atomics.store(this.words, this.at(frame, OWNER), HIDDEN);
    }
    this.mutex.unlock();
    if (frame !== NO_FRAME && pool !== 'slot') this.setTag(frame, 0);
    return frame;
  }

  /** `page` shows the frame from now on. */
  show(frame: FrameIndex, page: number): void {
    step(stepKind.write, frame);
    Atomics.store(this.words, this.at(frame, OWNER), page + 1);
  }
  /** No page shows it any more; from here on whoever reaches it reaches what is not theirs. */
  hide(frame: FrameIndex): void {
    step(stepKind.write, frame);
    Atomics.store(this.words, this.at(frame, OWNER), HIDDEN);
  }

  /** Another reference to a frame that has one. */
  get(frame: FrameIndex, pinned: boolean): void {
    step(stepKind.refTake, frame);
    Atomics.add(this.words, this.at(frame, REFS), 1);
    if (pinned) Atomics.add(this.words, this.at(frame, PINS), 1);
  }

  put(frame: FrameIndex, pinned = false): void {
    step(stepKind.refDrop, frame);
    if (pinned) Atomics.sub(this.words, this.at(frame, PINS), 1);
    const index = this.at(frame, REFS);
    const left = Atomics.sub(this.words, index, 1) - 1;
    Atomics.notify(this.words, index);
    if (left === 0) this.release(frame);
    else if (left < 0) this.locks.panicCell.panic(`frame ${frame} has ${left} references`);
  }

  private release(frame: FrameIndex): void {
    step(stepKind.frameFree, frame);
    const head = poolNames.indexOf(this.poolOf(frame)) * 2;
    this.mutex.lock();
    Atomics.store(this.words, this.at(frame, OWNER), FREE);
    this.words[this.at(frame, LINK)] = this.words[head] as number;
    this.words[head] = frame + 1;
    this.words[head + 1] = (this.words[head + 1] as number) + 1;
    this.mutex.unlock();
  }

  /** Sleeps until the frame has at most `count` references. */
  waitForReferences(frame: FrameIndex, count: number): void {
    const index = this.at(frame, REFS);
    const ready = (): boolean => Atomics.load(this.words, index) <= count;
    this.locks.waitFor(waitNode(waitKind.references, frame), this.words, index, ready);
  }
}
