// Translating a gfn for Xen's own use as it was before the fixes: what the rules of get_gfn are there against.
import type { World } from '#explore/world';
import { putPage } from '#model/domain/memory';
import type { Mfn } from '#model/frames/addresses';
import { getPageFromGfn, P2M_ALLOC } from '#model/p2m/get-entry';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';

/** Looks the entry up and keeps only the number: no lock, no reference. */
export function translateUnlocked(w: World, domid: number, gfn: number): Mfn {
  return peekEntry(w.host, w.domain(domid), gfn, new Leaf());
}

/** XSA-219: takes the reference, and puts it before the frame is used. */
export function translateAndPut(w: World, domid: number, gfn: number): Mfn {
  const m = getPageFromGfn(w.host, w.domain(domid), gfn, P2M_ALLOC, new Leaf());
  if (m >= 0) putPage(w.host, m as Mfn);
  return m as Mfn;
}
