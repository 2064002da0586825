// Foreign mappings (XENMAPSPACE_gmfn_foreign): a frame of one domain at a gfn of another, 4K only, holding a page reference
// of its own. M2P is not touched: the frame stays the other domain's. p2m fact sheet 12.
import type { Domain } from '../domain/domain.ts';
import { putPage } from '../domain/memory.ts';
import { DOMID_XEN, type Domid, INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { counter } from '../shared-memory/counters.ts';
import { getGfn, getPageFromGfn, P2M_ALLOC, putGfn } from './get-entry.ts';
import { Leaf } from './peek-entry.ts';
import { guestRemovePage, removeEntry, setTypedEntry } from './physmap.ts';
import { isRam, p2mAccess, p2mType } from './types.ts';

const C_MAPPED = counter('foreign.mapped');

/**
 * Maps `fgfn` of `fdom` at `gpfn` of `tdom`. Populates PoD on both sides; RAM that was at `gpfn` is *freed*.
 * 0, -EINVAL (same domain, or no ordinary RAM there), -EPERM (direct MMIO at gpfn), or what setting the entry answers.
 */
export function p2mAddForeign(h: Host, tdom: Domain, fgfn: number, gpfn: number, fdom: Domain): number {
  if (fdom === tdom || fdom.domid === DOMID_XEN) return -errno.EINVAL;
  const leaf = new Leaf();
  const found = getPageFromGfn(h, fdom, fgfn, P2M_ALLOC, leaf);
  if (found < 0) return -errno.EINVAL;
  const m = found as Mfn;
  let displaced: Mfn | -1 = -1;
  try {
    if (!isRam(leaf.type) || leaf.type === p2mType.ramShared) return -errno.EINVAL;
    // Deviation: Xen's own pages (shared_info) go with their domain here, so nobody may hold on to one.
    if (h.frames.has(m, frameFlag.special)) return -errno.EINVAL;
    getGfn(h, tdom, gpfn, P2M_ALLOC, leaf);
    try {
      displaced = holdForeign(h, leaf);
      const rc = vacate(h, tdom, gpfn, leaf);
      if (rc !== 0) return rc;
      const result = setTypedEntry(h, tdom, gpfn, m, 0, p2mType.mapForeign, p2mAccess.rwx);
      if (result === 0) h.counters.add(C_MAPPED);
      return result;
    } finally {
      putGfn(h, tdom);
    }
  } finally {
    if (displaced >= 0) putPage(h, displaced as Mfn);
    putPage(h, m);
  }
}

/**
 * A reference on a foreign frame that is about to be unmapped, so that its last one is not dropped under the p2m lock.
 * -1 if `leaf` is not foreign. Put it after the lock is released.
 */
export function holdForeign(h: Host, leaf: Leaf): Mfn | -1 {
  if (leaf.type !== p2mType.mapForeign) return -1;
  const owner = h.frames.ownerOf(leaf.mfn);
  return owner >= 0 && h.frames.getPage(leaf.mfn, owner as Domid) ? leaf.mfn : -1;
}

/**
 * Takes away what is at the target gfn: a special page is unhooked, RAM is given back to the host. p2m lock held, and for a
 * foreign frame a reference (`holdForeign`).
 */
export function vacate(h: Host, d: Domain, g: number, leaf: Leaf): number {
  if (leaf.type === p2mType.mmioDirect) return -errno.EPERM;
  if (leaf.mfn === INVALID_MFN || !h.frames.valid(leaf.mfn)) return 0;
  if (leaf.type === p2mType.mapForeign || h.frames.has(leaf.mfn, frameFlag.special))
    return removeEntry(h, d, g, leaf.mfn, 0);
  return guestRemovePage(h, d, g);
}
