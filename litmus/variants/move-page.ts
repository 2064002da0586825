// XENMAPSPACE moves of a page as they were between the fixes of September 2021: the page's old place is read before the new one is
// cleared, and is then removed whatever it is.
import type { World } from '#explore/world';
import { INVALID_MFN, type Mfn } from '#model/frames/addresses';
import { mapTableFrame } from '#model/grant/table';
import { getGfn, P2M_ALLOC, putGfn } from '#model/p2m/get-entry';
import { Leaf } from '#model/p2m/peek-entry';
import { guestPhysmapAddPage, p2mRemovePage, removeEntry } from '#model/p2m/physmap';

/** The first frame of the grant table at `gpfn`; 0 or -errno. */
export const moveTableFrame = (w: World, domid: number, gpfn: number): number =>
  mapTableFrame(w.host, w.domain(domid), 0, (m) => placeReadEarly(w, domid, m, gpfn));

function placeReadEarly({ host }: World, domid: number, m: Mfn, gpfn: number): number {
  const d = host.domain(domid);
  if (d === null) return -1;
  const leaf = new Leaf();
  getGfn(host, d, gpfn, P2M_ALLOC, leaf);
  try {
    const old = host.frames.gfnOf(m);
    let rc = leaf.mfn === INVALID_MFN ? 0 : removeEntry(host, d, gpfn, leaf.mfn, 0);
    if (rc === 0 && old >= 0) rc = p2mRemovePage(host, d, old, m, 0);
    return rc === 0 ? guestPhysmapAddPage(host, d, gpfn, m, 0) : rc;
  } finally {
    putGfn(host, d);
  }
}
