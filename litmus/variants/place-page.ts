// add_to_physmap of a page of Xen's as before XSA-379: where the page is now is asked without the p2m lock, and a removal accepts that
// the page is no longer there.
import type { World } from '#explore/world';
import { INVALID_MFN, type Mfn } from '#model/frames/addresses';
import { p2mLock, p2mUnlock } from '#model/p2m/p2m';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';
import { guestPhysmapAddPage } from '#model/p2m/physmap';
import { p2mSetEntry } from '#model/p2m/set-entry';
import { p2mAccess, p2mType } from '#model/p2m/types';
import { step, stepKind } from '#model/shared-memory/step';

/** `m` moves from wherever it is to `gfn`, where nothing is. */
export function placePageBefore379(w: World, domid: number, m: Mfn, gfn: number): void {
  const { host } = w;
  const d = w.domain(domid);
  step(stepKind.read, m);
  const old = host.frames.gfnOf(m);
  p2mLock(host, d);
  peekEntry(host, d, gfn, new Leaf());
  p2mUnlock(host, d);
  if (old >= 0) {
    p2mLock(host, d);
    const found = peekEntry(host, d, old, new Leaf());
    if (found === m || found === INVALID_MFN) {
      host.frames.clearM2pBlock(m, 1);
      p2mSetEntry(host, d, old, INVALID_MFN, 0, p2mType.invalid, p2mAccess.rwx);
    }
    p2mUnlock(host, d);
  }
  guestPhysmapAddPage(host, d, gfn, m, 0);
}
