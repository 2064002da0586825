// What a userptr driver keeps in shared memory: its buffer objects and the ring of jobs for its GPU's engine. The driver's lock
// protects all of it; the engine alone moves the ring's tail.
import { secondaryBytes } from './secondary-table.ts';

export interface UserptrConfig {
  /** Its number among the kernel's drivers, and the task that is its GPU's engine. */
  readonly driver: number;
  readonly engine: number;
  readonly buffers: number;
  readonly pagesPerBuffer: number;
  /**
   * `pin`: pages are pinned (FOLL_LONGTERM) for the buffer's life. `notifier`: they may move, and the driver is told.
   */
  readonly mapping: 'pin' | 'notifier';
  /** With a notifier: pages come with references that the callback drops (i915), or without (HMM: amdgpu, xe). */
  readonly pages: 'gup' | 'hmm';
  /** Where the driver looks whether to retry. Only `under-lock` is right. */
  readonly retryCheck: 'under-lock' | 'before-lock' | 'missing';
  /** A GPU without page faults must be idle on a range before its callback returns. */
  readonly gpuFaults: 'none' | 'recoverable';
  /** What the callback does about jobs under way: wait for their fences, or only take the entries and flush. */
  readonly onInvalidate: 'wait' | 'zap';
}

export const userptrDefaults = {
  driver: 0,
  engine: 1,
  buffers: 1,
  pagesPerBuffer: 8,
  mapping: 'notifier',
  pages: 'hmm',
  retryCheck: 'under-lock',
  gpuFaults: 'none',
  onInvalidate: 'wait',
} as const satisfies UserptrConfig;

const RING = 256;
/** Words of a buffer: 1 + subscription, first page, pages (0: unused), 1 if its entries are good, last fence, 1 if writable. */
export const BUFFER = { sub: 0, start: 1, count: 2, valid: 3, fence: 4, write: 5 } as const;
const BUFFER_WORDS = 6;
/** Words of a job: buffer, 1 if it writes, tag, fence. */
const JOB_WORDS = 4;
const HEAD = 0;
const TAIL = 1;
const HEADER = 2;

export interface Job {
  readonly buffer: number;
  readonly write: boolean;
  readonly tag: number;
  readonly fence: number;
}

const stateWords = (config: UserptrConfig): number => HEADER + config.buffers * BUFFER_WORDS + RING * JOB_WORDS;
export const userptrBytes = (config: UserptrConfig): number =>
  stateWords(config) * 4 + secondaryBytes(config.buffers * config.pagesPerBuffer, 1);

export class UserptrState {
  readonly config: UserptrConfig;
  private readonly words: Int32Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer, config: UserptrConfig) {
    this.config = config;
    this.words = new Int32Array(buffer, 0, stateWords(config));
  }

  /** Where the device's table begins in the same buffer. */
  get tableOffset(): number {
    return stateWords(this.config) * 4;
  }

  get(buffer: number, word: keyof typeof BUFFER): number {
    return Atomics.load(this.words, HEADER + buffer * BUFFER_WORDS + BUFFER[word]);
  }
  set(buffer: number, word: keyof typeof BUFFER, value: number): void {
    Atomics.store(this.words, HEADER + buffer * BUFFER_WORDS + BUFFER[word], value);
  }

  private job(index: number): number {
    return HEADER + this.config.buffers * BUFFER_WORDS + (index % RING) * JOB_WORDS;
  }

  get jobsWaiting(): number {
    return Atomics.load(this.words, HEAD) - Atomics.load(this.words, TAIL);
  }

  get ringFull(): boolean {
    return this.jobsWaiting >= RING;
  }

  /** The ring is not full. */
  push({ buffer, write, tag, fence }: Job): void {
    const head = Atomics.load(this.words, HEAD);
    this.words.set([buffer, write ? 1 : 0, tag, fence], this.job(head));
    Atomics.store(this.words, HEAD, head + 1);
  }

  /** The oldest job, left in place; null: none. */
  peek(): Job | null {
    if (this.jobsWaiting === 0) return null;
    const at = this.job(Atomics.load(this.words, TAIL));
    const [buffer = 0, write = 0, tag = 0, fence = 0] = this.words.subarray(at, at + JOB_WORDS);
    return { buffer, write: write !== 0, tag, fence };
  }
  drop(): void {
    Atomics.add(this.words, TAIL, 1);
  }
}
