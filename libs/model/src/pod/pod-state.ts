// What the PoD files share: who may touch the counts, and the questions other areas ask of them. Counts, lists and the
// pairing of entry_count with PoD leaves are protected by the domain's pod lock; all counts are 4K pages.
import type { Domain } from '../domain/domain.ts';
import type { Host } from '../host.ts';

/** Answers true when the running slice should end (Xen's hypercall_preempt_check); null = not preemptible. */
export type Preempt = (() => boolean) | null;

/** As Xen's p2m_pod_active: any liability or any asset makes the domain "PoD". Takes the pod lock. */
export function podActive(d: Domain): boolean {
  d.locks.pod.lock();
  const active = d.r.podEntryCount > 0 || d.r.podCount > 0;
  d.locks.pod.unlock();
  return active;
}

/** Entries that the cache could not serve if all of them were touched now. Pod lock held. */
export const inDebt = (d: Domain): boolean => d.r.podEntryCount > d.r.podCount;

/**
 * Whether new PoD state is refused because a device (or access to I/O memory) is there. `allow` is the historical
 * hypervisor, which had no such test: only the toolstack looked, at boot.
 */
export const refusedByDevice = (h: Host, d: Domain): boolean =>
  h.config.policies.podWithPassthrough !== 'allow' && (d.r.deviceCount > 0 || d.r.iomemCount > 0);
