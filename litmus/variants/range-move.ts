// XENMAPSPACE_gmfn_range as before XSA-346: one page moves while IOTLB flushes are put off to the end of the batch.
import type { World } from '#explore/world';
import type { Domain } from '#model/domain/domain';
import { putAllocRef, putPage } from '#model/domain/memory';
import { INVALID_MFN, type Mfn } from '#model/frames/addresses';
import type { Host } from '#model/host';
import { FLUSHF_added, FLUSHF_modified } from '#model/iommu/flags';
import { iommuIotlbFlush } from '#model/iommu/iommu';
import { getGfn, P2M_ALLOC, putGfn } from '#model/p2m/get-entry';
import { p2mTlbFlushSync } from '#model/p2m/p2m';
import { Leaf } from '#model/p2m/peek-entry';
import { guestPhysmapAddPage, guestRemovePage, p2mRemovePage, removeEntry } from '#model/p2m/physmap';

/**
 * - 'displaced': what was at the new place is freed while its flush is put off too (XSA-346a).
 * - 'moved': nobody holds on to the page that moved until its old place is flushed (XSA-346b).
 */
export function moveOneBefore346(
  w: World,
  domid: number,
  from: number,
  to: number,
  mistake: 'displaced' | 'moved',
): void {
  const { host } = w;
  const d = w.domain(domid);
  const source = new Leaf();
  const target = new Leaf();
  host.iommu.dontFlush = true;
  getGfn(host, d, from, P2M_ALLOC, source);
  const m = source.mfn;
  host.frames.getPage(m, d.domid);
  getGfn(host, d, to, P2M_ALLOC, target);
  if (target.mfn !== INVALID_MFN) {
    if (mistake === 'displaced') removeUnflushed(host, d, to, target.mfn);
    else guestRemovePage(host, d, to);
  }
  p2mRemovePage(host, d, from, m, 0);
  guestPhysmapAddPage(host, d, to, m, 0);
  putGfn(host, d);
  if (mistake === 'moved') putPage(host, m);
  putGfn(host, d);
  host.iommu.dontFlush = false;
  iommuIotlbFlush(host, d, from, 1, FLUSHF_modified);
  if (mistake === 'displaced') putPage(host, m);
  iommuIotlbFlush(host, d, to, 1, FLUSHF_added | FLUSHF_modified);
}

/** guest_remove_page, which left the flush to the end of the batch as everybody else. */
function removeUnflushed(h: Host, d: Domain, gfn: number, m: Mfn): void {
  h.frames.getPage(m, d.domid);
  removeEntry(h, d, gfn, m, 0);
  p2mTlbFlushSync(h, d);
  putAllocRef(h, m);
  putPage(h, m);
}
