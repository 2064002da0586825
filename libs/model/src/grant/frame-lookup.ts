// The frame behind a gfn that a grant names (get_paged_frame): ordinary memory of the granting domain only. Foreign frames,
// others' grants and lent memory are not its to pass on, and direct MMIO is no memory.
import type { Domain } from '../domain/domain.ts';
import { putPage } from '../domain/memory.ts';
import { MAX_GFN, type Mfn } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';
import { getPageFromGfn, P2M_ALLOC } from '../p2m/get-entry.ts';
import { Leaf } from '../p2m/peek-entry.ts';
import { isRam } from '../p2m/types.ts';

/**
 * One more reference of the frame that a pinned entry names; false: its owner cannot give one. Caller: grantActive lock of `rd`. A
 * pinned entry's frame is referenced, so that it is its owner's still (XSA-236).
 */
export function referAgain(h: Host, rd: Domain, ref: number, m: Mfn, owner: Domain): boolean {
  if (h.frames.getPage(m, owner.domid)) return true;
  if (Atomics.load(h.frames.count, m) > 0 && h.frames.ownerOf(m) === owner.domid) return false;
  h.platform.violation({
    invariant: 'pinnedImpliesReferenced',
    text: `grant ${ref} of d${rd.domid} is pinned, and its mfn ${m.toString(16)} is d${owner.domid}'s no more`,
    evidence: { domid: rd.domid, ref, mfn: m },
  });
  return false;
}

/** The frame with a reference, or -1 (bad_page). May populate a PoD entry. */
export function pagedFrame(h: Host, d: Domain, gfn: number): Mfn | -1 {
  if (gfn > MAX_GFN) return -1;
  const leaf = new Leaf();
  const m = getPageFromGfn(h, d, gfn, P2M_ALLOC, leaf);
  if (m < 0) return -1;
  // Deviation: Xen's own pages (shared_info, grant frames) go with their domain here, so nobody may hold on to one.
  if (isRam(leaf.type) && !h.frames.has(m as Mfn, frameFlag.special)) return m;
  putPage(h, m as Mfn);
  return -1;
}
