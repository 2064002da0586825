// XENMEM_set_pod_target's heart: how large the cache should be for a target of the whole domain.
import type { Domain } from '../domain/domain.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { podSetCacheTarget } from './cache-target.ts';
import { type Preempt, refusedByDevice } from './pod-state.ts';

/**
 * As Xen's p2m_pod_set_mem_target; the caller has checked privilege and max_pages. Never makes the domain smaller: that is
 * the balloon's work. 0, -ENOTEMPTY (a device is there), -ENOMEM, -ERESTART (call again with the same target).
 */
export function podSetMemTarget(h: Host, d: Domain, target: number, preempt: Preempt): number {
  d.locks.pod.lock();
  try {
    const populated = d.r.totPages - d.r.podCount;
    if (populated > 0 && d.r.podEntryCount === 0) return 0; // PoD is over
    if (d.dying) return 0;
    if (target < d.r.totPages) return 0;
    let cacheTarget = target - populated;
    if (populated > 0 && cacheTarget > d.r.podEntryCount) cacheTarget = d.r.podEntryCount;
    if (refusedByDevice(h, d)) return -errno.ENOTEMPTY;
    return podSetCacheTarget(h, d, cacheTarget, preempt);
  } finally {
    d.locks.pod.unlock();
  }
}
