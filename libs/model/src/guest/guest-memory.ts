// What a guest kernel believes about its memory: a state per page, the allocator over them, and the stack of ballooned
// pages. Lives in shared memory, since all vCPUs of the guest are one kernel. It knows no hypercall: what it calls free may
// have no frame behind it (populate on demand), and that is the point.
import { LockTable } from '../shared-memory/lock-table.ts';
import { Mutex } from '../shared-memory/mutex.ts';
import { PanicCell } from '../shared-memory/panic.ts';
import { type GuestRecord, guestRecord } from './guest-record.ts';
import { pageAt, pagesIn, type RamRange } from './ram-ranges.ts';

/** 0 must be "not RAM": states are lazily committed. `slot`: a ballooned page whose gfn is lent to a foreign mapping. */
export const pageState = { absent: 0, free: 1, used: 2, pinned: 3, dma: 4, ballooned: 5, slot: 6 } as const;
export type PageState = (typeof pageState)[keyof typeof pageState];

const TOUCHED = 0x80;
const STATE = 0x0f;
const BLOCK = 512;
const FOUR_GIB_PFN = 0x100000;
/** Share of RAM that the kernel keeps for itself (Linux's totalreserve), and its least. */
const RESERVE_SHARE = 256;
const RESERVE_MIN = 64;
const LOCKS = [{ name: 'guestAllocator', scope: -1, bias: 0 }] as const;

/** Everything a vCPU thread needs to attach; structured-cloneable. */
export interface GuestMemoryShared {
  readonly ranges: readonly RamRange[];
  /** What the memory map has beside RAM: no memory is hot-added there. */
  readonly taken: readonly RamRange[];
  /** Pages that page states exist for: RAM and room for hot-added memory. */
  readonly capacity: number;
  /** Pages of one ballooned extent: 1 or 512. */
  readonly unitPages: 1 | 512;
  readonly allocation: 'scattered' | 'top-down';
  readonly buffers: {
    readonly panic: SharedArrayBuffer;
    readonly locks: SharedArrayBuffer;
    readonly record: SharedArrayBuffer;
    readonly states: SharedArrayBuffer;
    readonly blocks: SharedArrayBuffer;
    readonly links: SharedArrayBuffer;
  };
}

export interface GuestMemoryRequest {
  readonly ranges: readonly RamRange[];
  readonly taken: readonly RamRange[];
  readonly vcpus: number;
  readonly seed: number;
  readonly unitPages: 1 | 512;
  readonly allocation: 'scattered' | 'top-down';
  readonly hotplugPages: number;
}

/** The first run of `pages` whole blocks from `from` on that nothing in the memory map lies in. */
function freeRun(taken: readonly RamRange[], from: number, pages: number): number {
  let start = Math.ceil(from / BLOCK) * BLOCK;
  for (const range of taken) {
    if (range.end > start && range.start < start + pages) start = Math.ceil(range.end / BLOCK) * BLOCK;
  }
  return start;
}

/** Allocates the kernel's shared memory: all RAM free, nothing ballooned. */
export function createGuestMemory(request: GuestMemoryRequest): GuestMemoryShared {
  const { ranges, taken } = request;
  const end = ranges.at(-1)?.end ?? 0;
  // Hot-added memory comes in whole sections above the end.
  const hotplug = Math.ceil(request.hotplugPages / BLOCK) * BLOCK;
  const capacity = (hotplug === 0 ? Math.ceil(end / BLOCK) * BLOCK : freeRun(taken, end, hotplug)) + hotplug;
  const shared = (bytes: number): SharedArrayBuffer => new SharedArrayBuffer(Math.ceil(bytes / 8) * 8);
  const result: GuestMemoryShared = {
    ranges,
    taken,
    capacity,
    unitPages: request.unitPages,
    allocation: request.allocation,
    buffers: {
      panic: shared(PanicCell.bytes()),
      locks: shared(LockTable.bytes(LOCKS.length, request.vcpus)),
      record: shared(guestRecord.bytes(1)),
      states: shared(capacity),
      blocks: shared((capacity / BLOCK) * 2),
      links: shared(capacity * 4),
    },
  };
  const record = guestRecord.view(result.buffers.record, 0, 1);
  const states = new Uint8Array(result.buffers.states);
  const blocks = new Uint16Array(result.buffers.blocks);
  for (const { start, end: stop } of ranges) {
    states.fill(pageState.free, start, stop);
    for (let at = start; at < stop; at = (Math.floor(at / BLOCK) + 1) * BLOCK) {
      const block = Math.floor(at / BLOCK);
      blocks[block] = (blocks[block] as number) + Math.min(stop, (block + 1) * BLOCK) - at;
    }
  }
  record.random = (request.seed | 0) === 0 ? 0x9e3779b9 | 0 : request.seed | 0;
  record.topHint = capacity / BLOCK - 1;
  record.ramPages = pagesIn(ranges);
  record.freePages = record.ramPages;
  record.endGfn = end;
  record.currentPages = record.ramPages;
  record.targetPages = record.ramPages;
  return result;
}

export class GuestMemory {
  readonly shared: GuestMemoryShared;
  readonly record: GuestRecord;
  private readonly states: Uint8Array<SharedArrayBuffer>;
  private readonly blocks: Uint16Array<SharedArrayBuffer>;
  /** Next of the balloon stack: gfn + 1, at an extent's first gfn. */
  private readonly links: Uint32Array<SharedArrayBuffer>;
  readonly locks: LockTable;
  private readonly mutex: Mutex;

  constructor(shared: GuestMemoryShared, vcpu: number) {
    const { buffers } = shared;
    this.shared = shared;
    this.record = guestRecord.view(buffers.record, 0, 1);
    this.states = new Uint8Array(buffers.states);
    this.blocks = new Uint16Array(buffers.blocks);
    this.links = new Uint32Array(buffers.links);
    this.locks = new LockTable(buffers.locks, LOCKS, vcpu, new PanicCell(buffers.panic));
    this.mutex = new Mutex(this.locks, 0);
  }

  /** Pages the kernel will not give to the balloon. */
  get reservePages(): number {
    return Math.max(RESERVE_MIN, Math.floor(this.record.ramPages / RESERVE_SHARE));
  }

  /** As si_mem_available: what could be allocated without going below the reserve. */
  get availablePages(): number {
    return Math.max(0, this.record.freePages - this.reservePages);
  }

  /** One past the highest page of RAM below 4 GiB. */
  get lowEnd(): number {
    return this.shared.ranges.reduce((end, r) => (r.end <= FOUR_GIB_PFN ? Math.max(end, r.end) : end), 0);
  }

  stateOf(gfn: number): PageState {
    return ((this.states[gfn] ?? 0) & STATE) as PageState; // only PageState values are ever stored
  }

  isTouched(gfn: number): boolean {
    return ((this.states[gfn] ?? 0) & TOUCHED) !== 0;
  }

  /** A CPU of this guest has loaded or stored these pages. */
  markTouched(gfns: ArrayLike<number>): void {
    this.mutex.lock();
    for (let i = 0; i < gfns.length; i++) {
      const gfn = gfns[i] as number;
      if (gfn < this.states.length) this.states[gfn] = (this.states[gfn] as number) | TOUCHED;
    }
    this.mutex.unlock();
  }

  /** Up to `count` pages of the allocator's choosing, now in `state`; fewer if RAM runs out. */
  allocPages(count: number, state: PageState): number[] {
    const found: number[] = [];
    this.mutex.lock();
    while (found.length < count) {
      const gfn = this.pick();
      if (gfn < 0) break;
      this.take(gfn, state);
      found.push(gfn);
    }
    this.mutex.unlock();
    return found;
  }

  /** A whole, aligned, free 2M run, now in `state`: its first page, or -1. */
  allocRun(state: PageState): number {
    this.mutex.lock();
    const block = this.probe((free) => free === BLOCK);
    if (block >= 0) for (let i = 0; i < BLOCK; i++) this.take(block * BLOCK + i, state);
    this.mutex.unlock();
    return block < 0 ? -1 : block * BLOCK;
  }

  /** `count` free pages from `gfn` downwards, now in `state`. */
  allocDownFrom(gfn: number, count: number, state: PageState): number[] {
    const found: number[] = [];
    this.mutex.lock();
    for (let g = Math.min(gfn, this.states.length - 1); g >= 0 && found.length < count; g--) {
      if (this.stateOf(g) !== pageState.free) continue;
      this.take(g, state);
      found.push(g);
    }
    this.mutex.unlock();
    return found;
  }

  /** Pages spread evenly over all RAM, now in `state`: the buffers of a device that has run for long. */
  allocSpread(count: number, state: PageState): number[] {
    const found: number[] = [];
    const { ranges } = this.shared;
    const total = pagesIn(ranges);
    this.mutex.lock();
    for (let i = 0; i < count; i++) {
      const gfn = this.nextFree(pageAt(ranges, Math.floor((i * total) / count)));
      if (gfn < 0) break;
      this.take(gfn, state);
      found.push(gfn);
    }
    this.mutex.unlock();
    return found;
  }

  /** The first free page from `gfn` on, around the end if need be. */
  private nextFree(gfn: number): number {
    const end = this.record.endGfn;
    for (let i = 0; i < end; i++) {
      const at = (gfn + i) % end;
      if (this.stateOf(at) === pageState.free) return at;
    }
    return -1;
  }

  /** The lowest free pages from `gfn` up: what a kernel's early allocator takes. */
  allocUpFrom(gfn: number, count: number, state: PageState): number[] {
    const found: number[] = [];
    this.mutex.lock();
    for (let g = gfn; g < this.record.endGfn && found.length < count; g++) {
      if (this.stateOf(g) !== pageState.free) continue;
      this.take(g, state);
      found.push(g);
    }
    this.mutex.unlock();
    return found;
  }

  /** Pages go back to the allocator, from any state but ballooned or lent. */
  freePages(gfns: readonly number[]): void {
    this.mutex.lock();
    for (const gfn of gfns) this.give(gfn);
    this.mutex.unlock();
  }

  /** Allocated pages go on the balloon stack: `extents` are first pages of `unitPages` each. */
  pushBallooned(extents: readonly number[]): void {
    this.mutex.lock();
    for (const first of extents) this.pushLocked(first);
    this.mutex.unlock();
  }

  /** The top `count` extents, most recent first, left in place. */
  peekBallooned(count: number): number[] {
    const found: number[] = [];
    this.mutex.lock();
    for (let at = this.record.balloonTop; at !== 0 && found.length < count; at = this.links[at - 1] as number) {
      found.push(at - 1);
    }
    this.mutex.unlock();
    return found;
  }

  /** Takes the top `count` extents off; with frames behind them again they are free pages, otherwise slots to be lent. */
  popBallooned(count: number, as: 'free' | 'slot'): number[] {
    const found: number[] = [];
    this.mutex.lock();
    while (found.length < count && this.record.balloonTop !== 0) {
      const first = this.record.balloonTop - 1;
      this.record.balloonTop = this.links[first] as number;
      this.record.balloonUnits--;
      for (let i = 0; i < this.shared.unitPages; i++) {
        if (as === 'slot') this.setState(first + i, pageState.slot);
        else this.give(first + i);
      }
      found.push(first);
    }
    this.mutex.unlock();
    return found;
  }

  /** Memory hot-added above the end, brought online without frames: it arrives on the balloon stack. False: no room. */
  hotAdd(pages: number): boolean {
    this.mutex.lock();
    const start = freeRun(this.shared.taken, this.record.endGfn, pages);
    const fits = start + pages <= this.shared.capacity;
    if (fits) {
      for (let at = start + pages - this.shared.unitPages; at >= start; at -= this.shared.unitPages)
        this.pushLocked(at);
      this.record.endGfn = start + pages;
      this.record.ramPages += pages;
    }
    this.mutex.unlock();
    return fits;
  }

  private pushLocked(first: number): void {
    for (let i = 0; i < this.shared.unitPages; i++) this.setState(first + i, pageState.ballooned);
    this.links[first] = this.record.balloonTop;
    this.record.balloonTop = first + 1;
    this.record.balloonUnits++;
  }

  private setState(gfn: number, state: PageState): void {
    this.states[gfn] = ((this.states[gfn] as number) & TOUCHED) | state;
  }

  /** A free page becomes something else. */
  private take(gfn: number, state: PageState): void {
    const block = Math.floor(gfn / BLOCK);
    this.setState(gfn, state);
    this.blocks[block] = (this.blocks[block] as number) - 1;
    this.record.freePages--;
  }

  private give(gfn: number): void {
    const block = Math.floor(gfn / BLOCK);
    this.setState(gfn, pageState.free);
    this.blocks[block] = (this.blocks[block] as number) + 1;
    this.record.freePages++;
    if (block > this.record.topHint) this.record.topHint = block;
  }

  /** xorshift32: enough to scatter pages, and the same on every machine. */
  private nextRandom(): number {
    let x = this.record.random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.record.random = x;
    return x >>> 0;
  }

  /** A block that `fits`, from a random one on (scattered) or from the top down; -1 if none does. */
  private probe(fits: (free: number) => boolean): number {
    const count = this.blocks.length;
    if (this.shared.allocation === 'top-down') {
      for (let block = count - 1; block >= 0; block--) if (fits(this.blocks[block] as number)) return block;
      return -1;
    }
    const start = this.nextRandom() % Math.max(1, count);
    for (let i = 0; i < count; i++) {
      const block = (start + i) % count;
      if (fits(this.blocks[block] as number)) return block;
    }
    return -1;
  }

  private pick(): number {
    if (this.record.freePages === 0) return -1;
    if (this.shared.allocation === 'top-down') return this.pickTop();
    const block = this.probe((free) => free > 0);
    const start = this.nextRandom() % BLOCK;
    for (let i = 0; i < BLOCK; i++) {
      const gfn = block * BLOCK + ((start + i) % BLOCK);
      if (this.stateOf(gfn) === pageState.free) return gfn;
    }
    return -1;
  }

  private pickTop(): number {
    while (this.record.topHint >= 0 && this.blocks[this.record.topHint] === 0) this.record.topHint--;
    const first = this.record.topHint * BLOCK;
    for (let gfn = first + BLOCK - 1; gfn >= first && gfn >= 0; gfn--) {
      if (this.stateOf(gfn) === pageState.free) return gfn;
    }
    return -1;
  }
}
