// The domain heap: a buddy allocator of orders 0…18 over the host's RAM, and the claims on it. A block is free as a whole,
// its head on the list of its order; splitting and merging follow the usual buddy rule (partner = mfn ^ 2^order).
// Every entry takes the heap lock; callers hold at most locks of lower level.
import type { Mutex } from '../shared-memory/mutex.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import type { Mfn, Order } from './addresses.ts';
import { FrameList } from './frame-list.ts';
import { type FrameTable, frameFlag } from './frame-table.ts';

export const MAX_ORDER = 18;
const ORDERS = MAX_ORDER + 1;
/** Doubles: a list per order, then free pages, total pages, pages claimed by all domains. */
const FREE = ORDERS * 3;
const TOTAL = FREE + 1;
const CLAIMED = FREE + 2;

export class Heap {
  static bytes(): number {
    return (CLAIMED + 1) * 8;
  }

  private readonly cells: Float64Array<SharedArrayBuffer>;
  private readonly frames: FrameTable;
  private readonly mutex: Mutex;
  private readonly lists: readonly FrameList[];

  constructor(buffer: SharedArrayBuffer, frames: FrameTable, mutex: Mutex) {
    this.cells = new Float64Array(buffer);
    this.frames = frames;
    this.mutex = mutex;
    this.lists = Array.from({ length: ORDERS }, (_, order) => new FrameList(frames, this.cells, order * 3));
  }

  get freePages(): number {
    return this.cells[FREE] as number;
  }
  get totalPages(): number {
    return this.cells[TOTAL] as number;
  }
  get claimedPages(): number {
    return this.cells[CLAIMED] as number;
  }
  /** Blocks on the list of an order. */
  blocks(order: Order): number {
    return this.lists[order]?.length ?? 0;
  }
  /** Heads of all free blocks of an order (heap lock or a safepoint). */
  freeBlocks(order: Order): Iterable<Mfn> {
    return this.lists[order] as FrameList; // order <= MAX_ORDER
  }

  /** Boot only: gives [start, end) of RAM to the heap in the largest aligned blocks. */
  addRange(start: number, end: number): void {
    this.mutex.lock();
    let at = start;
    while (at < end) {
      let order = 0;
      while (order < MAX_ORDER && at % 2 ** (order + 1) === 0 && at + 2 ** (order + 1) <= end) order++;
      this.link(at as Mfn, order);
      at += 2 ** order;
    }
    this.cells[FREE] = this.freePages + (end - start);
    this.cells[TOTAL] = this.totalPages + (end - start);
    this.mutex.unlock();
  }

  /**
   * A block of 2^order frames, or -1 if there is none (or the free rest is claimed by others).
   * `ownClaim` = pages the asking domain has claimed itself. The frames are owned by nobody and have no reference yet.
   */
  alloc(order: Order, ownClaim = 0): Mfn | -1 {
    if (order > MAX_ORDER) return -1;
    if (step(stepKind.frameAlloc, order) !== 0) return -1;
    this.mutex.lock();
    const pages = 2 ** order;
    let block: Mfn | -1 = -1;
    if (this.freePages - pages >= this.claimedPages - ownClaim) {
      let found = order;
      while (found <= MAX_ORDER && this.blocks(found) === 0) found++;
      if (found <= MAX_ORDER) {
        block = (this.lists[found] as FrameList).first;
        this.unlink(block as Mfn, found);
        // Give the upper halves back until the block has the wanted size.
        while (found > order) {
          found--;
          this.link((block + 2 ** found) as Mfn, found);
        }
        this.cells[FREE] = this.freePages - pages;
      }
    }
    this.mutex.unlock();
    return block;
  }

  /** Returns a block; its frames must have no owner, no reference and no list. Merges with free buddies. */
  free(m: Mfn, order: Order): void {
    step(stepKind.frameFree, m);
    this.mutex.lock();
    this.cells[FREE] = this.freePages + 2 ** order;
    let at = m as number;
    let size = order;
    while (size < MAX_ORDER) {
      const span = 2 ** size;
      const buddy = Math.floor(at / span) % 2 === 0 ? at + span : at - span;
      if (buddy >= this.frames.frames || !this.frames.has(buddy as Mfn, frameFlag.freeHead)) break;
      if (this.frames.order[buddy] !== size) break;
      this.unlink(buddy as Mfn, size);
      at = Math.min(at, buddy);
      size++;
    }
    this.link(at as Mfn, size);
    this.mutex.unlock();
  }

  /** Changes the sum of claims if `pages` more can be promised. The caller keeps the domain's own figure under this lock. */
  claim(pages: number): boolean {
    this.mutex.lock();
    const possible = pages <= this.freePages - this.claimedPages;
    if (possible) this.cells[CLAIMED] = this.claimedPages + pages;
    this.mutex.unlock();
    return possible;
  }

  unclaim(pages: number): void {
    if (pages === 0) return;
    this.mutex.lock();
    this.cells[CLAIMED] = this.claimedPages - pages;
    this.mutex.unlock();
  }

  private link(m: Mfn, order: Order): void {
    this.frames.setFlag(m, frameFlag.freeHead);
    this.frames.order[m] = order;
    (this.lists[order] as FrameList).prepend(m);
  }

  private unlink(m: Mfn, order: Order): void {
    (this.lists[order] as FrameList).remove(m);
    this.frames.clearFlag(m, frameFlag.freeHead);
    this.frames.order[m] = 0;
  }
}
