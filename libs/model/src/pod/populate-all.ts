// The policy populate-first: before a device may reach a PoD domain, every entry gets a frame, so that no DMA can meet one.
// Xen has no such call; it refuses the combination. Done in slices: no lock is held between them.
import type { Domain } from '../domain/domain.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { getEntry, P2M_ALLOC } from '../p2m/get-entry.ts';
import { p2mLock, p2mUnlock } from '../p2m/p2m.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { isPod } from '../p2m/types.ts';
import { podSetCacheTarget } from './cache-target.ts';

/** Entries populated under one hold of the p2m lock. */
const POPULATE_SLICE = 16;

/** Where a run of several slices is: first gfn not yet looked at, and the cache's size before it grew. */
export interface PopulateProgress {
  at: number;
  cacheBefore: number;
}

export const startPopulating = (d: Domain): PopulateProgress => ({ at: 0, cacheBefore: d.r.podCount });

/**
 * 0: no PoD entry and no cache is left; -ERESTART: call again with the same progress; -ENOMEM: the cache and the heap (or
 * max_pages) do not suffice, or table memory is short. What was populated stays, the cache shrinks back.
 */
export function podPopulateAll(h: Host, d: Domain, progress: PopulateProgress, preempt: () => boolean): number {
  const rc = fund(h, d, progress, preempt);
  if (rc !== 0) return rc;
  while (progress.at <= d.r.maxMappedPfn) {
    const result = populateSome(h, d, progress);
    if (result !== 0) return result;
    if (preempt()) return -errno.ERESTART;
  }
  d.locks.pod.lock();
  try {
    if (d.r.podEntryCount > 0) {
      // Somebody marked more meanwhile, behind us.
      progress.at = 0;
      return -errno.ERESTART;
    }
    return podSetCacheTarget(h, d, 0, null);
  } finally {
    d.locks.pod.unlock();
  }
}

/** The cache grows until it covers every entry, or shrinks back to what it was. */
function fund(h: Host, d: Domain, progress: PopulateProgress, preempt: () => boolean): number {
  d.locks.pod.lock();
  try {
    const missing = d.r.podEntryCount - d.r.podCount;
    if (missing <= 0) return 0;
    const affordable = missing <= h.heap.allocatablePages(d.r);
    const allowed = d.r.totPages + missing <= d.r.maxPages;
    const rc = affordable && allowed ? podSetCacheTarget(h, d, d.r.podEntryCount, preempt) : -errno.ENOMEM;
    if (rc === -errno.ENOMEM && d.r.podCount > progress.cacheBefore)
      podSetCacheTarget(h, d, progress.cacheBefore, null);
    return rc;
  } finally {
    d.locks.pod.unlock();
  }
}

function populateSome(h: Host, d: Domain, progress: PopulateProgress): number {
  const leaf = new Leaf();
  p2mLock(h, d);
  try {
    for (let populated = 0; populated < POPULATE_SLICE && progress.at <= d.r.maxMappedPfn; ) {
      const gfn = progress.at;
      peekEntry(h, d, gfn, leaf);
      if (isPod(leaf.type)) {
        populated++;
        getEntry(h, d, gfn, P2M_ALLOC, leaf);
        if (d.crashed || isStillPod(h, d, gfn, leaf)) return -errno.ENOMEM;
      }
      const pages = 2 ** leaf.order;
      progress.at = gfn - (gfn % pages) + pages;
    }
    return 0;
  } finally {
    p2mUnlock(h, d);
  }
}

/** A lookup that could not populate answers a hole, and the entry is still PoD. */
function isStillPod(h: Host, d: Domain, gfn: number, leaf: Leaf): boolean {
  peekEntry(h, d, gfn, leaf);
  return isPod(leaf.type);
}
