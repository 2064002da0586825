// A domain's claim: pages promised to it and not yet allocated. The domain's figure and the host's sum change together under
// the heap lock (heap.ts), where an allocation uses them up too. The page_alloc lock around it keeps tot_pages still.
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import type { Domain } from './domain.ts';

/**
 * As Xen's domain_set_outstanding_pages: `pages` is the size the domain is to reach; 0 gives the claim up.
 * -EINVAL: dying, already claimed, not above tot_pages, or above max_pages; -ENOMEM: not that much is free and unclaimed.
 */
export function setClaim(h: Host, d: Domain, pages: number): number {
  d.locks.pageAlloc.lock();
  try {
    if (d.dying) return -errno.EINVAL;
    if (pages === 0) {
      h.heap.unclaim(d.r);
      return 0;
    }
    if (d.r.outstandingPages > 0) return -errno.EINVAL;
    if (pages <= d.r.totPages || pages > d.r.maxPages) return -errno.EINVAL;
    const need = pages - d.r.totPages;
    return h.heap.claim(d.r, need) ? 0 : -errno.ENOMEM;
  } finally {
    d.locks.pageAlloc.unlock();
  }
}

/** Death: the promise is void (Xen's domain_kill). */
export function dropClaim(h: Host, d: Domain): void {
  d.locks.pageAlloc.lock();
  h.heap.unclaim(d.r);
  d.locks.pageAlloc.unlock();
}
