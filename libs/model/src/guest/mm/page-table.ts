// The page table entries of an address space, one word each, and what stands behind a page that has none (swap or file).
// Changed under the page-table lock; the CPU's own accesses happen under it as well, which stands for the CPU's TLB and its
// flush (deviation: a task's access is not delayed past an unmap).
import { step, stepKind } from '../../shared-memory/step.ts';
import type { FrameIndex } from './frame-pools.ts';

export const pte = {
  present: 1,
  write: 2,
  dirty: 4,
  /** In device memory that the CPU cannot reach (device-private): not present for it, and a touch brings the page back. */
  device: 8,
  /** A migration entry; the number above is the task that moves the page. */
  migrating: 16,
} as const;
const FLAG_BITS = 8;
const FLAGS = (1 << FLAG_BITS) - 1;

export const pteFrame = (entry: number): FrameIndex => (entry >> FLAG_BITS) as FrameIndex; // made by frameEntry
export const frameEntry = (frame: FrameIndex, flags: number): number => (frame << FLAG_BITS) | flags;
export const migrationEntry = (task: number): number => (task << FLAG_BITS) | pte.migrating;
export const migratingTask = (entry: number): number => entry >> FLAG_BITS;
/** Names a frame, be it the CPU's to reach or not. */
export const hasFrame = (entry: number): boolean => (entry & (pte.present | pte.device)) !== 0;
export const withFlags = (entry: number, set: number, clear = 0): number => (entry & ~(clear & FLAGS)) | set;

export const pageTableBytes = (pages: number): number => pages * 8 + 8;

export class PageTable {
  private readonly entries: Int32Array<SharedArrayBuffer>;
  private readonly backing: Int32Array<SharedArrayBuffer>;
  /** Bumped when a migration ends: what a fault on a migration entry sleeps on. */
  readonly moved: Int32Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer, pages: number) {
    this.entries = new Int32Array(buffer, 0, pages);
    this.backing = new Int32Array(buffer, pages * 4, pages);
    this.moved = new Int32Array(buffer, pages * 8, 1);
  }

  get pages(): number {
    return this.entries.length;
  }

  read(page: number): number {
    step(stepKind.read, page);
    return Atomics.load(this.entries, page);
  }

  /** As read, for those who only look on: announces nothing. */
  peek(page: number): number {
    return Atomics.load(this.entries, page);
  }

  write(page: number, entry: number): void {
    step(stepKind.write, page);
    Atomics.store(this.entries, page, entry);
  }

  /** Content in the file or on the swap device. */
  stored(page: number): number {
    return this.backing[page] as number;
  }
  store(page: number, tag: number): void {
    step(stepKind.write, page);
    this.backing[page] = tag;
  }

  migrationEnded(): void {
    Atomics.add(this.moved, 0, 1);
    Atomics.notify(this.moved, 0);
  }
}
