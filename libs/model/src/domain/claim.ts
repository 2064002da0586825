// A domain's claim: pages promised to it and not yet allocated. The domain's figure changes under its page_alloc lock, the
// host's sum under the heap lock inside it, so neither is ever seen without the other by an allocation of the domain.
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
      h.heap.unclaim(d.r.outstandingPages);
      d.r.outstandingPages = 0;
      return 0;
    }
    if (d.r.outstandingPages > 0) return -errno.EINVAL;
    if (pages <= d.r.totPages || pages > d.r.maxPages) return -errno.EINVAL;
    const need = pages - d.r.totPages;
    if (!h.heap.claim(need)) return -errno.ENOMEM;
    d.r.outstandingPages = need;
    return 0;
  } finally {
    d.locks.pageAlloc.unlock();
  }
}

/** Death: the promise is void (Xen's domain_kill). */
export function dropClaim(h: Host, d: Domain): void {
  d.locks.pageAlloc.lock();
  h.heap.unclaim(d.r.outstandingPages);
  d.r.outstandingPages = 0;
  d.locks.pageAlloc.unlock();
}
