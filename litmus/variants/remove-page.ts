// Giving up a page of a guest as it was before two fixes.
import type { World } from '#explore/world';
import { domainFeature } from '#model/domain/domain-record';
import { putAllocRef, putPage } from '#model/domain/memory';
import { getGfn, P2M_QUERY, putGfn } from '#model/p2m/get-entry';
import { p2mLock, p2mTlbFlushSync, p2mUnlock } from '#model/p2m/p2m';
import { Leaf } from '#model/p2m/peek-entry';
import { guestRemovePage, removeEntry } from '#model/p2m/physmap';
import { isRam } from '#model/p2m/types';

/** Before XSA-222: guest_remove_page frees the frame whether or not its entry went. */
export function removeWhateverCame(w: World, domid: number, gfn: number): void {
  const { host } = w;
  const d = w.domain(domid);
  const leaf = new Leaf();
  const m = getGfn(host, d, gfn, P2M_QUERY, leaf);
  if (isRam(leaf.type) && host.frames.getPage(m, d.domid)) {
    removeEntry(host, d, gfn, m, 0);
    p2mTlbFlushSync(host, d);
    putAllocRef(host, m);
    putPage(host, m);
  }
  putGfn(host, d);
}

/** Before ee91a49a44: setting an entry of these tables does not tell the IOMMU, though the domain has tables of its own there. */
export function removeUnsynced(w: World, domid: number, gfn: number): void {
  const { host } = w;
  const d = w.domain(domid);
  p2mLock(host, d);
  d.r.features &= ~domainFeature.needSync;
  guestRemovePage(host, d, gfn);
  d.r.features |= domainFeature.needSync;
  p2mUnlock(host, d);
}
