// Death of a PoD domain: its cache becomes plain memory of the domain again, so that the ordinary release finds it.
import type { Domain } from '../domain/domain.ts';
import { PAGE_ORDER_2M, SUPERPAGE_PAGES } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { cacheGet } from './cache.ts';
import type { Preempt } from './pod-state.ts';

/**
 * As Xen's p2m_pod_empty_cache, for a dying domain whose devices and IOMMU tables are gone. 0, or -ERESTART: call again.
 * Taking the pod lock waits for a populate that passed its check of `dying` before death began.
 */
export function podEmptyCache(h: Host, d: Domain, preempt: Preempt): number {
  h.assert(d.dying, 'only a dying domain loses its PoD cache');
  d.locks.pod.lock();
  try {
    while (d.podSuper.length > 0) {
      cacheGet(h, d, PAGE_ORDER_2M);
      if (preempt?.()) return d.r.podCount > 0 ? -errno.ERESTART : 0;
    }
    for (let i = 0; d.podSingle.length > 0; i++) {
      cacheGet(h, d, 0);
      if (i > 0 && i % SUPERPAGE_PAGES === 0 && preempt?.()) return d.r.podCount > 0 ? -errno.ERESTART : 0;
    }
    h.assert(d.r.podCount === 0, 'an empty PoD cache counts nothing');
    return 0;
  } finally {
    d.locks.pod.unlock();
  }
}
