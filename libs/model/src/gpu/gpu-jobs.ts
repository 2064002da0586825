// What guests' drivers have submitted to a shared GPU: one job per guest at a time, in shared memory. A job is passes over some pages
// of graphics memory. Written by the guest's vCPU until it is ready, then by the GPU's thread until it is done. It knows neither
// tables nor mediators.
import type { SharedDoubles, SharedWords } from './gpu-memory.ts';

export const jobState = { none: 0, ready: 1, done: 2 } as const;

const CELLS = 16;
const WORDS = 2;
const STATE = 0;
const STOP = 1;

export const jobCell = {
  /** The function that runs it: the GPU itself, or the guest's own (SR-IOV). */
  sbdf: 0,
  incarnation: 1,
  /** Page-table root: a context of the mediator's, or with SR-IOV the guest page that is the root. */
  root: 2,
  page: 3,
  pages: 4,
  /** 1: the pages are written, with `tag`. */
  write: 5,
  tag: 6,
  /** 0: until it is told to stop. */
  passes: 7,
  /** How far it is. */
  pass: 8,
  index: 9,
  completed: 10,
  /** Accesses that found nothing in the GPU's own tables. */
  pageFaults: 11,
  /** Accesses that the IOMMU refused: the GPU hangs at the first one, and the job ends. */
  busFaults: 12,
  firstFaultDfn: 13,
  reason: 14,
} as const;
export type JobCell = keyof typeof jobCell;

/** What a driver asks for. */
export interface GpuJob {
  readonly sbdf: number;
  readonly incarnation: number;
  readonly root: number;
  readonly page: number;
  readonly pages: number;
  readonly write: boolean;
  readonly tag: number;
  readonly passes: number;
}

export class GpuJobs {
  static bytes(slots: number): number {
    return slots * (CELLS * 8 + WORDS * 4);
  }

  private readonly cells: SharedDoubles;
  private readonly words: SharedWords;

  constructor(buffer: SharedArrayBuffer, at: number, slots: number) {
    this.cells = new Float64Array(buffer, at, slots * CELLS);
    this.words = new Int32Array(buffer, at + slots * CELLS * 8, slots * WORDS);
  }

  state(slot: number): number {
    return Atomics.load(this.words, slot * WORDS + STATE);
  }

  get(slot: number, name: JobCell): number {
    return this.cells[slot * CELLS + jobCell[name]] as number;
  }

  set(slot: number, name: JobCell, value: number): void {
    this.cells[slot * CELLS + jobCell[name]] = value;
  }

  add(slot: number, name: JobCell, n: number): void {
    this.set(slot, name, this.get(slot, name) + n);
  }

  /** False: the guest's last job is not done yet. */
  submit(slot: number, job: GpuJob): boolean {
    if (this.state(slot) === jobState.ready) return false;
    const { sbdf, incarnation, root, page, pages, write, tag, passes } = job;
    this.cells.fill(0, slot * CELLS, (slot + 1) * CELLS);
    this.cells.set([sbdf, incarnation, root, page, pages, write ? 1 : 0, tag, passes], slot * CELLS);
    this.set(slot, 'firstFaultDfn', -1);
    Atomics.store(this.words, slot * WORDS + STOP, 0);
    Atomics.store(this.words, slot * WORDS + STATE, jobState.ready);
    return true;
  }

  /** The GPU ends it after the access it is at. */
  stop(slot: number): void {
    Atomics.store(this.words, slot * WORDS + STOP, 1);
  }

  isStopped(slot: number): boolean {
    return Atomics.load(this.words, slot * WORDS + STOP) !== 0;
  }

  finish(slot: number): void {
    Atomics.store(this.words, slot * WORDS + STATE, jobState.done);
  }

  /** Its figures were read. */
  release(slot: number): void {
    Atomics.store(this.words, slot * WORDS + STATE, jobState.none);
  }
}
