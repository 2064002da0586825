// A map on a unit that caches what is absent, as before Xen c5c84e9766: what was absent is flushed under domain id 0.
import type { World } from '#explore/world';
import { allocDomheap } from '#model/domain/memory';
import type { Mfn } from '#model/frames/addresses';
import { invalidateDomain } from '#model/iommu/vtd/invalidation';
import { guestPhysmapAddPage } from '#model/p2m/physmap';

/** populate_physmap of one page. */
export function populateFlushingId0(w: World, domid: number, gfn: number): void {
  const { host } = w;
  const d = w.domain(domid);
  const m = allocDomheap(host, d, 0) as Mfn;
  host.iommu.dontFlush = true;
  guestPhysmapAddPage(host, d, gfn, m, 0);
  host.iommu.dontFlush = false;
  for (const unit of host.iommu.units) invalidateDomain(host, unit, 0);
}
