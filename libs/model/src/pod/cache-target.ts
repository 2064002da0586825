// Brings the PoD cache to a wanted size: grows it from the heap, shrinks it back to the heap.
import type { Domain } from '../domain/domain.ts';
import { allocDomheap, putAllocRef, putPage } from '../domain/memory.ts';
import { type Mfn, PAGE_ORDER_2M, SUPERPAGE_PAGES } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { cacheAdd, cacheGet } from './cache.ts';
import type { Preempt } from './pod-state.ts';

/**
 * As Xen's p2m_pod_set_cache_target. 0; -ENOMEM (what was added stays); -ERESTART when `preempt` asked for it; -EINVAL when
 * a frame of the cache could not be freed. Pod lock held.
 */
export function podSetCacheTarget(h: Host, d: Domain, target: number, preempt: Preempt): number {
  const rc = grow(h, d, target, preempt);
  return rc !== 0 ? rc : shrink(h, d, target, preempt);
}

function grow(h: Host, d: Domain, target: number, preempt: Preempt): number {
  while (target > d.r.podCount) {
    let order: 0 | 9 = target - d.r.podCount >= SUPERPAGE_PAGES ? PAGE_ORDER_2M : 0;
    let m = allocDomheap(h, d, order);
    if (m < 0 && order === PAGE_ORDER_2M) {
      order = 0;
      m = allocDomheap(h, d, order);
    }
    if (m < 0) {
      h.platform.printk(
        `p2m_pod_set_cache_target: Unable to allocate page for PoD cache (target=${target} cache=${d.r.podCount})`,
      );
      return -errno.ENOMEM;
    }
    const rc = cacheAdd(h, d, m as Mfn, order);
    h.assert(rc === 0, 'a fresh block of the domain fits the PoD cache');
    if (preempt && target !== d.r.podCount && preempt()) return -errno.ERESTART;
  }
  return 0;
}

/**
 * The preemption check comes after every 4K frame, in the middle of a 2M chunk too: the rest of such a chunk is then the
 * domain's plain memory, in the cache no more (as Xen).
 */
function shrink(h: Host, d: Domain, target: number, preempt: Preempt): number {
  while (target < d.r.podCount) {
    const order = d.r.podCount - target > SUPERPAGE_PAGES && d.podSuper.length > 0 ? PAGE_ORDER_2M : 0;
    const first = cacheGet(h, d, order);
    for (let i = 0; i < 2 ** order; i++) {
      const m = (first + i) as Mfn;
      if (!h.frames.getPage(m, d.domid)) {
        h.platform.printk(`p2m_pod_set_cache_target: Bad page free for domain ${d.domid}`);
        return -errno.EINVAL;
      }
      putAllocRef(h, m);
      putPage(h, m);
      if (preempt && target !== d.r.podCount && preempt()) return -errno.ERESTART;
    }
  }
  return 0;
}
