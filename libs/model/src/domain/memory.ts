// Frames become a domain's and stop being it: allocation from the heap, tot_pages and max_pages, references, and the last
// reference's free. Frames without an owner (page tables) come from here too. It knows nothing of gfns.
import type { Domid, Mfn, Order } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import { MAX_ORDER } from '../frames/heap.ts';
import type { Host } from '../host.ts';
import { counter } from '../shared-memory/counters.ts';
import type { Domain } from './domain.ts';
import { domainRecord, domainState } from './domain-record.ts';

const C_ALLOC = counter('heap.alloc');
const C_FREE = counter('heap.free');

/**
 * 2^order zeroed frames owned by `d`, one allocation reference each; -1 when the heap has none, `d` is dying, or max_pages
 * would be exceeded (which Xen logs). Takes page_alloc and heap locks.
 */
export function allocDomheap(h: Host, d: Domain, order: Order): Mfn | -1 {
  const m = allocUnscrubbed(h, d, order);
  if (m >= 0) h.frames.scrubDirty(m as Mfn, 2 ** order);
  return m;
}

/** As allocDomheap, but what a dead domain left in the frames is still there: the caller scrubs them (MEMF_no_scrub). */
export function allocUnscrubbed(h: Host, d: Domain, order: Order): Mfn | -1 {
  const pages = 2 ** order;
  const { pageAlloc } = d.locks;
  pageAlloc.lock();
  const over = d.r.totPages + pages > d.r.maxPages;
  const wanted = d.r.totPages + pages;
  const m = over || d.dying ? -1 : h.heap.alloc(order, d.r);
  if (m >= 0) {
    h.frames.fillBlock(m as Mfn, pages, d.domid, 1, frameFlag.allocated);
    h.frames.countUse(m as Mfn, pages, 1);
    d.r.totPages += pages;
  }
  pageAlloc.unlock();
  if (over) h.platform.printk(`Over-allocation for d${d.domid}: ${wanted} > ${d.r.maxPages}`);
  if (m >= 0) h.counters.add(C_ALLOC, pages);
  return m;
}

/** One frame for Xen's own use (a page table): no owner, not in anybody's tot_pages. */
export function allocAnonymous(h: Host): Mfn | -1 {
  const m = h.heap.alloc(0);
  if (m < 0) return -1;
  h.frames.scrubDirty(m as Mfn, 1);
  h.frames.fillBlock(m as Mfn, 1, -1, 1, frameFlag.table);
  h.frames.countUse(m as Mfn, 1, 1);
  h.counters.add(C_ALLOC);
  return m;
}

export function freeAnonymous(h: Host, m: Mfn): void {
  h.frames.fillBlock(m, 1, -1, 0, 0);
  h.frames.countUse(m, 1, -1);
  h.counters.add(C_FREE);
  h.heap.free(m, 0);
}

/**
 * Drops one reference; with the last one the frame returns to the heap (Xen's put_page). What a dead domain leaves is zeroed
 * when somebody gets the frame. A living one's is zeroed here: Xen leaves that to the guest unless `scrub-domheap` is set, and a
 * guest's kernel here does not say what it leaves behind.
 */
export function putPage(h: Host, m: Mfn): void {
  if (!h.frames.dropReference(m)) return;
  const owner = h.frames.ownerOf(m);
  const d = owner < 0 ? null : h.domain(owner);
  // Xen's own pages are in nobody's count.
  if (d && !h.frames.has(m, frameFlag.special)) {
    d.locks.pageAlloc.lock();
    d.r.totPages -= 1;
    d.locks.pageAlloc.unlock();
  }
  if (!d?.dying) h.frames.scrub(m, 1);
  h.frames.m2p[m] = 0;
  h.frames.fillBlock(m, 1, -1, 0, 0);
  h.frames.countUse(m, 1, -1);
  h.counters.add(C_FREE);
  h.heap.free(m, 0);
  if (d) releaseIfUnreferenced(d);
}

/** Drops the owner's allocation reference, once (Xen's put_page_alloc_ref). False if it was gone already. */
export function putAllocRef(h: Host, m: Mfn): boolean {
  if (!h.frames.clearFlag(m, frameFlag.allocated)) return false;
  putPage(h, m);
  return true;
}

/** A zombie whose last frame has come home gives its number back. */
export function releaseIfUnreferenced(d: Domain): void {
  // Several CPUs may drop the last references at once: one of them releases, before the slot can be somebody else's.
  if (d.r.totPages !== 0) return;
  Atomics.compareExchange(d.r.words, domainRecord.at.state, domainState.zombie, domainState.free);
}

/** Frames looked at between two preemption checks of `relinquishMemory`. */
const RELINQUISH_SLICE = 1024;

/**
 * Destroy, stage h: drops the allocation reference of every frame `d` still owns, from frame `from` upwards. Runs that only
 * the domain itself references are freed as blocks. Answers the frame to resume at, or -1 when all was seen.
 */
export function relinquishMemory(h: Host, d: Domain, from: number, preempt: () => boolean): number {
  const { frames } = h;
  let at = frames.nextUsed(from);
  let seen = 0;
  while (at < h.config.frames) {
    if (++seen % RELINQUISH_SLICE === 0 && preempt()) return at;
    if (frames.ownerOf(at as Mfn) === d.domid) {
      const run = takeRun(h, d.domid, at);
      if (run > 0) freeRun(h, d, at, run);
      else putAllocRef(h, at as Mfn);
      at += Math.max(run, 1);
    } else at++;
    at = frames.nextUsed(at);
  }
  return -1;
}

/** Frames from `start` that only `owner` holds: their single references are taken away, one by one, atomically. */
function takeRun(h: Host, owner: Domid, start: number): number {
  const { frames } = h;
  const limit = Math.min(h.config.frames, (Math.floor(start / 2 ** MAX_ORDER) + 1) * 2 ** MAX_ORDER);
  let at = start;
  while (
    at < limit &&
    frames.ownerOf(at as Mfn) === owner &&
    frames.has(at as Mfn, frameFlag.allocated) &&
    Atomics.compareExchange(frames.count, at, 1, 0) === 1
  ) {
    at++;
  }
  return at - start;
}

function freeRun(h: Host, d: Domain, start: number, pages: number): void {
  const { frames } = h;
  frames.m2p.fill(0, start, start + pages);
  frames.fillBlock(start as Mfn, pages, -1, 0, 0);
  d.locks.pageAlloc.lock();
  d.r.totPages -= pages;
  d.locks.pageAlloc.unlock();
  h.counters.add(C_FREE, pages);
  let at = start;
  while (at < start + pages) {
    let order = 0;
    while (order < MAX_ORDER && at % 2 ** (order + 1) === 0 && at + 2 ** (order + 1) <= start + pages) order++;
    frames.countUse(at as Mfn, 2 ** order, -1);
    h.heap.free(at as Mfn, order);
    at += 2 ** order;
  }
}
