// The domain heap: a buddy allocator of orders 0…18 over the host's RAM, the claims on it, and the frames taken offline.
// A block is free as a whole, its head on the list of its order; splitting and merging follow the usual buddy rule
// (partner = mfn ^ 2^order). Every entry takes the heap lock; callers hold at most locks of lower level.
//
// A frame that is marked offline leaves the heap at once if it is free, else when it is freed (Xen's page states offlining
// and offlined). Which it is follows from whether anybody has it.
import type { Mutex } from '../shared-memory/mutex.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import type { Mfn, Order } from './addresses.ts';
import { FrameList } from './frame-list.ts';
import { type FrameTable, frameFlag } from './frame-table.ts';

export const MAX_ORDER = 18;
const ORDERS = MAX_ORDER + 1;
/** Doubles: a list per order, then free pages, total pages, pages claimed by all domains, frames marked and frames out. */
const FREE = ORDERS * 3;
const TOTAL = FREE + 1;
const CLAIMED = FREE + 2;
const MARKED = FREE + 3;
const OFFLINED = FREE + 4;

/** Values of `frames.offline`: to leave with its last user, and gone. */
const LEAVING = 1;
const GONE = 2;

/** Who may have a claim: a domain's record. The figure changes under the heap lock only. */
export interface ClaimHolder {
  outstandingPages: number;
}

/** Of a frame: nothing is wrong with it; it leaves when it is freed; it has left. */
export type FrameHealth = 'online' | 'offlining' | 'offlined';

export class Heap {
  static bytes(): number {
    return (OFFLINED + 1) * 8;
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
  /** Frames that are in nobody's hands and will not be given out. */
  get offlinedPages(): number {
    return this.cells[OFFLINED] as number;
  }
  /** What could be allocated now without breaking another's claim; a figure of the moment. */
  allocatablePages(claim: ClaimHolder | null = null): number {
    return this.freePages - this.claimedPages + (claim?.outstandingPages ?? 0);
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
   * A block of 2^order frames, or -1 if there is none (or the free rest is claimed by others). The frames are owned by nobody
   * and have no reference yet. `claim`: the asking domain's, of which the block uses up its size under the same hold of the
   * lock, so that nobody sees the pages neither free nor claimed (as Xen's alloc_heap_pages).
   */
  alloc(order: Order, claim: ClaimHolder | null = null): Mfn | -1 {
    if (order > MAX_ORDER) return -1;
    if (step(stepKind.frameAlloc, order) !== 0) return -1;
    this.mutex.lock();
    const pages = 2 ** order;
    let block: Mfn | -1 = -1;
    if (pages <= this.allocatablePages(claim)) {
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
        if (claim) this.release(claim, Math.min(pages, claim.outstandingPages));
      }
    }
    this.mutex.unlock();
    return block;
  }

  /** Returns a block; its frames must have no owner, no reference and no list. Merges with free buddies. */
  free(m: Mfn, order: Order): void {
    step(stepKind.frameFree, m);
    this.mutex.lock();
    this.takeBack(m, order);
    this.mutex.unlock();
  }

  /** A claim of `pages` for a domain that has none, if that much is free and unclaimed. */
  claim(holder: ClaimHolder, pages: number): boolean {
    this.mutex.lock();
    const possible = pages <= this.allocatablePages();
    if (possible) {
      holder.outstandingPages = pages;
      this.cells[CLAIMED] = this.claimedPages + pages;
    }
    this.mutex.unlock();
    return possible;
  }

  /** What is left of a claim is given up. */
  unclaim(holder: ClaimHolder): void {
    this.mutex.lock();
    this.release(holder, holder.outstandingPages);
    this.mutex.unlock();
  }

  /**
   * The frame is to leave the heap: at once if it is free, else when its last user frees it. As Xen's mark_page_offline and
   * reserve_heap_page. It may take pages that are promised to a claim: that allocation will then fail.
   */
  setOffline(m: Mfn): FrameHealth {
    this.mutex.lock();
    if (!this.frames.offline[m]) {
      this.frames.offline[m] = LEAVING;
      this.cells[MARKED] = (this.cells[MARKED] as number) + 1;
      const order = this.freeBlockAround(m);
      if (order >= 0) {
        const head = (m - (m % 2 ** order)) as Mfn;
        this.unlink(head, order);
        this.cells[FREE] = this.freePages - 2 ** order;
        this.takeBack(head, order);
      }
    }
    const health = this.health(m);
    this.mutex.unlock();
    return health;
  }

  /** Takes the mark back; an offlined frame is free again. What it was before. As Xen's online_page. */
  setOnline(m: Mfn): FrameHealth {
    this.mutex.lock();
    const before = this.health(m);
    if (before !== 'online') {
      this.frames.offline[m] = 0;
      this.cells[MARKED] = (this.cells[MARKED] as number) - 1;
    }
    if (before === 'offlined') {
      this.cells[OFFLINED] = this.offlinedPages - 1;
      this.takeBack(m, 0);
    }
    this.mutex.unlock();
    return before;
  }

  /** As Xen's query_page_offline. */
  query(m: Mfn): FrameHealth {
    this.mutex.lock();
    const health = this.health(m);
    this.mutex.unlock();
    return health;
  }

  private health(m: Mfn): FrameHealth {
    const mark = this.frames.offline[m] as number;
    return mark === 0 ? 'online' : mark === GONE ? 'offlined' : 'offlining';
  }

  /** Order of the free block that covers a frame, or -1. */
  private freeBlockAround(m: Mfn): Order | -1 {
    for (let order = 0; order <= MAX_ORDER; order++) {
      const head = (m - (m % 2 ** order)) as Mfn;
      if (this.frames.has(head, frameFlag.freeHead) && this.frames.order[head] === order) return order;
    }
    return -1;
  }

  /** Heap lock held: a block comes in, whole or, where frames of it are marked, in the pieces between them. */
  private takeBack(m: Mfn, order: Order): void {
    if ((this.cells[MARKED] as number) === this.offlinedPages || !this.hasMarked(m, order)) {
      this.cells[FREE] = this.freePages + 2 ** order;
      this.merge(m, order);
    } else if (order === 0) {
      this.frames.offline[m] = GONE;
      this.cells[OFFLINED] = this.offlinedPages + 1;
    } else {
      this.takeBack(m, order - 1);
      this.takeBack((m + 2 ** (order - 1)) as Mfn, order - 1);
    }
  }

  private hasMarked(m: Mfn, order: Order): boolean {
    return this.frames.offline.subarray(m, m + 2 ** order).includes(LEAVING);
  }

  private merge(m: Mfn, order: Order): void {
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
  }

  /** Heap lock held. */
  private release(holder: ClaimHolder, pages: number): void {
    holder.outstandingPages -= pages;
    this.cells[CLAIMED] = this.claimedPages - pages;
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
