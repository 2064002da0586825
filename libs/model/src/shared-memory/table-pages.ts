// The pages that page tables are made of: 512 slots each, in one arena, handed out by index. Every table page is backed by a
// host frame taken from the heap (the caller accounts for it), but its slots live here so that a walk is four loads.
// Deviation from Xen: a middle entry names the table page's index in this arena where Xen's names the frame.
// Index 0 is never handed out: 0 means "no table".
import type { Mutex } from './mutex.ts';
import { load, type Slots, store } from './slots.ts';
import { step, stepKind } from './step.ts';

export const SLOTS_PER_TABLE = 512;
export type TableIndex = number & { readonly __brand: 'TableIndex' };

/** Who uses a table page. `queued`: unlinked, waits for the flush that makes it unreachable. */
export const tableUse = { free: 0, p2m: 1, iommu: 2, queued: 3 } as const;

const FREE_HEAD = 0;
const NEVER_USED = 1;
const IN_USE = 2;

export class TablePages {
  static bytes(pages: number): number {
    return pages * (SLOTS_PER_TABLE * 8 + 4 + 4 + 4) + 32;
  }

  readonly slots: Slots;
  readonly pages: number;
  /** Next free page (index), or mfn + 1 of the backing frame while in use. */
  private readonly link: Uint32Array<SharedArrayBuffer>;
  /** use + 4 * slot of the domain. */
  private readonly use: Int32Array<SharedArrayBuffer>;
  /** Bumped at every free: whoever kept an index can tell that the page is no longer the one it was. */
  private readonly generation: Int32Array<SharedArrayBuffer>;
  private readonly head: Int32Array<SharedArrayBuffer>;
  private readonly mutex: Mutex;

  constructor(buffer: SharedArrayBuffer, pages: number, mutex: Mutex) {
    this.pages = pages;
    this.mutex = mutex;
    this.slots = new Float64Array(buffer, 0, pages * SLOTS_PER_TABLE);
    const words = pages * SLOTS_PER_TABLE * 8;
    this.link = new Uint32Array(buffer, words, pages);
    this.use = new Int32Array(buffer, words + pages * 4, pages);
    this.generation = new Int32Array(buffer, words + pages * 8, pages);
    this.head = new Int32Array(buffer, words + pages * 12, 4);
  }

  get inUse(): number {
    return this.head[IN_USE] as number;
  }

  /** Slots from the first on that were ever in use: all beyond are still zero. */
  get slotsEverUsed(): number {
    return ((this.head[NEVER_USED] as number) + 1) * SLOTS_PER_TABLE;
  }

  /** A page of 512 zero slots, or 0 when the arena is full. `frame` = mfn that backs it. */
  alloc(use: number, domainSlot: number, frame: number): TableIndex | 0 {
    if (step(stepKind.ptAlloc, domainSlot) !== 0) return 0;
    this.mutex.lock();
    let page = this.head[FREE_HEAD] as number;
    if (page !== 0) this.head[FREE_HEAD] = this.link[page] as number;
    else {
      page = (this.head[NEVER_USED] as number) + 1;
      if (page >= this.pages) page = 0;
      else this.head[NEVER_USED] = page;
    }
    if (page !== 0) {
      this.link[page] = frame + 1;
      this.use[page] = use + 4 * domainSlot;
      this.head[IN_USE] = this.inUse + 1;
    }
    this.mutex.unlock();
    return page as TableIndex | 0;
  }

  /** The page is unlinked but may still be walked until its flush: keep its slots. */
  markQueued(page: TableIndex): void {
    this.use[page] = tableUse.queued + ((this.use[page] as number) & ~3);
  }

  /** Nobody can walk it any more. Answers the backing frame, which the caller gives back. */
  free(page: TableIndex): number {
    step(stepKind.ptFree, page);
    this.slots.fill(0, page * SLOTS_PER_TABLE, (page + 1) * SLOTS_PER_TABLE);
    this.mutex.lock();
    const frame = (this.link[page] as number) - 1;
    this.use[page] = tableUse.free;
    Atomics.add(this.generation, page, 1);
    this.link[page] = this.head[FREE_HEAD] as number;
    this.head[FREE_HEAD] = page;
    this.head[IN_USE] = this.inUse - 1;
    this.mutex.unlock();
    return frame;
  }

  frameOf(page: TableIndex): number {
    return (this.link[page] as number) - 1;
  }
  useOf(page: TableIndex): number {
    return (this.use[page] as number) & 3;
  }
  domainSlotOf(page: TableIndex): number {
    return (this.use[page] as number) >> 2;
  }
  generationOf(page: TableIndex): number {
    return Atomics.load(this.generation, page);
  }

  /** Slot `index` (0…511) of a table. */
  read(page: TableIndex, index: number): number {
    return load(this.slots, page * SLOTS_PER_TABLE + index);
  }
  write(page: TableIndex, index: number, value: number): void {
    store(this.slots, page * SLOTS_PER_TABLE + index, value);
  }
}
