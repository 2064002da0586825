// The death of a domain as it was: I/O tables freed although a device still walks them, or although somebody may still ask for them.
import type { World } from '#explore/world';
import type { Domain } from '#model/domain/domain';
import { domainRecord, domainState } from '#model/domain/domain-record';
import { releaseDevices } from '#model/iommu/assign';
import { iommuFreePgtables } from '#model/iommu/iommu';

function markDying(d: Domain): void {
  Atomics.store(d.r.words, domainRecord.at.state, domainState.dying);
  Atomics.store(d.r.words, domainRecord.at.isDying, 1);
  d.locks.iommuMapping.barrier();
}

/** Before Xen f591755823: whether its devices could be taken away is not asked. */
export function freeTablesWhateverHappened(w: World, domid: number): void {
  const d = w.domain(domid);
  markDying(d);
  releaseDevices(w.host, d);
  iommuFreePgtables(w.host, d, () => false);
}

/** Between Xen 3eef6d07d7 and 9bd9695a8b: the tables go, and the pointer to their root stays. */
export function freeTablesKeepingTheRoot(w: World, domid: number): void {
  const d = w.domain(domid);
  markDying(d);
  const root = d.r.iommuRoot;
  iommuFreePgtables(w.host, d, () => false);
  d.r.iommuRoot = root;
}
