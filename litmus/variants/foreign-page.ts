// A foreign page leaves the p2m as before Xen 6718787797 (Arm): its reference goes with the flush of the CPUs, before that of the IOTLB.
import type { World } from '#explore/world';
import { putPage } from '#model/domain/memory';
import type { Mfn } from '#model/frames/addresses';
import { FLUSHF_modified } from '#model/iommu/flags';
import { iommuIotlbFlush } from '#model/iommu/iommu';
import { getPageFromGfn, P2M_ALLOC } from '#model/p2m/get-entry';
import { Leaf } from '#model/p2m/peek-entry';
import { p2mRemovePage } from '#model/p2m/physmap';

/** remove_from_physmap. */
export function removeForeignBeforeFlush(w: World, domid: number, gfn: number): void {
  const { host } = w;
  const d = w.domain(domid);
  const m = getPageFromGfn(host, d, gfn, P2M_ALLOC, new Leaf());
  if (m < 0) return;
  host.iommu.dontFlush = true;
  p2mRemovePage(host, d, gfn, m as Mfn, 0);
  host.iommu.dontFlush = false;
  putPage(host, m as Mfn);
  iommuIotlbFlush(host, d, gfn, 1, FLUSHF_modified);
}
