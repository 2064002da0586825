// One entry per host frame: owner, references, flags, the M2P slot, list links and the content tag. This file owns the
// arrays and the reference rules; who may allocate is heap.ts, who owns is domain/memory.ts. It knows nothing of p2m or IOMMU.
//
// All arrays are lazily committed shared memory: zero must mean "free, owned by nobody, M2P invalid, contents zero".

import { step, stepKind } from '../shared-memory/step.ts';
import type { Domid, Mfn } from './addresses.ts';

/** Bits of `flags`. */
export const frameFlag = {
  /** The owner's allocation reference has not been dropped (Xen's PGC_allocated). */
  allocated: 1,
  /** Xen's own page shared with a domain (shared_info, grant and ioreq pages): never guest RAM to take away. */
  special: 2,
  /** In the owner's PoD cache. */
  podCache: 4,
  /** Holds a p2m or IOMMU table. */
  table: 8,
  /** Not RAM: a BAR, or firmware's. Never in the heap. */
  notRam: 16,
  /** In the heap's free lists (set on the head of a free block only). */
  freeHead: 32,
  /** RAM that firmware keeps for a device (a reserved region). Never in the heap. */
  firmware: 64,
} as const;

const BYTES_PER_FRAME = 4 + 4 + 4 + 4 + 4 + 2 + 1 + 1 + 1;
const CHUNK = 512;

export class FrameTable {
  static bytes(frames: number): number {
    return frames * BYTES_PER_FRAME + Math.ceil(frames / CHUNK) * 4;
  }

  readonly frames: number;
  /** References; 0 = free. The last reference gone frees the frame (domain/memory.ts, putPage). */
  readonly count: Int32Array<SharedArrayBuffer>;
  /** gfn + 1 of the one place where the owner has it; 0 = none (INVALID_M2P_ENTRY). */
  readonly m2p: Uint32Array<SharedArrayBuffer>;
  /** Contents: 0 = zero page. */
  readonly tag: Int32Array<SharedArrayBuffer>;
  /** Links (mfn + 1, 0 = end) of the one list a frame can be on: heap, PoD cache or paging pool. */
  readonly next: Uint32Array<SharedArrayBuffer>;
  readonly prev: Uint32Array<SharedArrayBuffer>;
  /** domid + 1; 0 = nobody. */
  private readonly owners: Uint16Array<SharedArrayBuffer>;
  readonly flags: Uint8Array<SharedArrayBuffer>;
  /** Order of the free block that starts here, where freeHead is set. */
  readonly order: Uint8Array<SharedArrayBuffer>;
  /** Marks of frames that are being taken out of use (heap lock; heap.ts has the values). Frees leave them alone. */
  readonly offline: Uint8Array<SharedArrayBuffer>;
  /** Allocated frames per 2M of the host: lets a scan skip what nobody uses (and so never commits it). */
  private readonly chunkUse: Int32Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer, frames: number) {
    this.frames = frames;
    this.chunkUse = new Int32Array(buffer, 0, Math.ceil(frames / CHUNK));
    let at = Math.ceil(frames / CHUNK) * 4;
    const take = (bytes: number): number => {
      const start = at;
      at += bytes * frames;
      return start;
    };
    this.count = new Int32Array(buffer, take(4), frames);
    this.m2p = new Uint32Array(buffer, take(4), frames);
    this.tag = new Int32Array(buffer, take(4), frames);
    this.next = new Uint32Array(buffer, take(4), frames);
    this.prev = new Uint32Array(buffer, take(4), frames);
    this.owners = new Uint16Array(buffer, take(2), frames);
    this.flags = new Uint8Array(buffer, take(1), frames);
    this.order = new Uint8Array(buffer, take(1), frames);
    this.offline = new Uint8Array(buffer, take(1), frames);
  }

  /** An mfn that has an entry: RAM or not, but inside the table. */
  valid(m: Mfn): boolean {
    return m >= 0 && m < this.frames;
  }

  ownerOf(m: Mfn): Domid | -1 {
    return ((this.owners[m] ?? 0) - 1) as Domid | -1; // stored as domid + 1
  }

  setOwner(m: Mfn, owner: Domid | -1): void {
    this.owners[m] = owner + 1;
  }

  /** A whole block changes hands: owner, one reference each, flags. Heap and domain code only, frames exclusively held. */
  fillBlock(m: Mfn, pages: number, owner: Domid | -1, references: number, flags: number): void {
    this.owners.fill(owner + 1, m, m + pages);
    this.count.fill(references, m, m + pages);
    this.flags.fill(flags, m, m + pages);
  }

  /** Accounts `pages` frames from `m` as allocated (+1) or free (-1). The block lies inside one chunk or covers whole ones. */
  countUse(m: Mfn, pages: number, sign: 1 | -1): void {
    for (let left = pages, at = m as number; left > 0; left -= CHUNK, at += CHUNK) {
      Atomics.add(this.chunkUse, Math.floor(at / CHUNK), sign * Math.min(left, CHUNK));
    }
  }

  /** Next frame >= m that may be allocated: skips chunks that nobody uses. */
  nextUsed(m: number): number {
    let at = m;
    while (at < this.frames && this.chunkUse[Math.floor(at / CHUNK)] === 0) at = (Math.floor(at / CHUNK) + 1) * CHUNK;
    return at;
  }

  /** gfn, or -1 where M2P is invalid. */
  gfnOf(m: Mfn): number {
    return (this.m2p[m] ?? 0) - 1;
  }

  /** M2P[m] := gfn (-1 = invalid). Caller holds the p2m lock of the frame's owner. */
  setM2p(m: Mfn, g: number): void {
    step(stepKind.m2pWrite, m);
    this.m2p[m] = g + 1;
  }

  /** M2P of a block, ascending from `g`. */
  setM2pBlock(m: Mfn, g: number, pages: number): void {
    step(stepKind.m2pWrite, m);
    for (let i = 0; i < pages; i++) this.m2p[m + i] = g + 1 + i;
  }

  clearM2pBlock(m: Mfn, pages: number): void {
    step(stepKind.m2pWrite, m);
    this.m2p.fill(0, m, m + pages);
  }

  has(m: Mfn, flag: number): boolean {
    return ((this.flags[m] ?? 0) & flag) !== 0;
  }

  /** Atomic: other bits may change at the same time. Answers whether it was set before. */
  setFlag(m: Mfn, flag: number): boolean {
    return (Atomics.or(this.flags, m, flag) & flag) !== 0;
  }

  clearFlag(m: Mfn, flag: number): boolean {
    return (Atomics.and(this.flags, m, ~flag & 0xff) & flag) !== 0;
  }

  /** Takes a reference if the frame lives and belongs to `owner` (Xen's get_page). Lock-free. */
  getPage(m: Mfn, owner: Domid): boolean {
    if (step(stepKind.refTake, m) !== 0) return false;
    for (;;) {
      const references = Atomics.load(this.count, m);
      if (references <= 0) return false;
      if (Atomics.compareExchange(this.count, m, references, references + 1) !== references) continue;
      if (this.ownerOf(m) === owner) return true;
      // The frame changed hands between: give the reference back. Callers hold a p2m lock or another reference that keeps the
      // frame's owner from giving it up meanwhile, so it is not the last.
      Atomics.sub(this.count, m, 1);
      return false;
    }
  }

  /** Drops a reference; true if it was the last and the caller must free the frame. Use domain/memory.ts's `putPage`. */
  dropReference(m: Mfn): boolean {
    step(stepKind.refDrop, m);
    return Atomics.sub(this.count, m, 1) === 1;
  }

  isZero(m: Mfn): boolean {
    return this.tag[m] === 0;
  }

  /**
   * Of a run, the frames that are not zero become so, at most `limit` of them. Answers how many frames from `m` are zero now:
   * all, or up to where the limit was reached. Nobody else has the frames.
   */
  scrubDirty(m: Mfn, pages: number, limit = Number.POSITIVE_INFINITY): number {
    let dirty = 0;
    for (let i = 0; i < pages; i++) {
      if (this.tag[m + i] === 0) continue;
      if (dirty++ === 0) step(stepKind.scrub, m + i);
      this.tag[m + i] = 0;
      if (dirty >= limit) return i + 1;
    }
    return pages;
  }

  /** Contents become zero. */
  scrub(m: Mfn, pages: number): void {
    step(stepKind.scrub, m);
    this.tag.fill(0, m, m + pages);
  }
}
