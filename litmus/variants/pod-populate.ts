// Demand population of a PoD entry as it was: what happened when a superpage had to be split, or a page taken back, and there was no
// table page for it.
import type { World } from '#explore/world';
import { INVALID_MFN } from '#model/frames/addresses';
import { p2mLock, p2mTlbFlushSync, p2mUnlock } from '#model/p2m/p2m';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';
import { p2mSetEntry } from '#model/p2m/set-entry';
import { isPod, isRam, p2mAccess, p2mType } from '#model/p2m/types';
import { cacheAdd } from '#model/pod/cache';
import { podDemandPopulate } from '#model/pod/demand-populate';

const POD = p2mType.populateOnDemand;

/** XSA-246: a split that failed is reported as done, so the caller looks the entry up again. The lookup of an EPT violation. */
export function populateBefore246(w: World, domid: number, gfn: number): void {
  const { host } = w;
  const d = w.domain(domid);
  const leaf = new Leaf();
  p2mLock(host, d);
  for (;;) {
    peekEntry(host, d, gfn, leaf);
    if (!isPod(leaf.type)) break;
    if (leaf.order === 18) {
      const aligned = gfn - (gfn % 512);
      p2mSetEntry(host, d, aligned, INVALID_MFN, 9, POD, p2mAccess.rwx);
    } else podDemandPopulate(host, d, gfn, leaf.order);
  }
  p2mUnlock(host, d);
}

/** XSA-247: pages that look zero go to the cache whether or not they could be unmapped; then `gfn` is populated. */
export function reclaimAndPopulateBefore247(w: World, domid: number, zeroes: readonly number[], gfn: number): void {
  const { host } = w;
  const d = w.domain(domid);
  const leaf = new Leaf();
  p2mLock(host, d);
  d.locks.pod.lock();
  for (const zero of zeroes) {
    const m = peekEntry(host, d, zero, leaf);
    if (!isRam(leaf.type) || !host.frames.isZero(m)) continue;
    p2mSetEntry(host, d, zero, INVALID_MFN, 0, POD, p2mAccess.rwx);
    p2mTlbFlushSync(host, d);
    if (!host.frames.isZero(m)) continue;
    host.frames.clearM2pBlock(m, 1);
    cacheAdd(host, d, m, 0);
    d.r.podEntryCount++;
  }
  d.locks.pod.unlock();
  peekEntry(host, d, gfn, leaf);
  if (isPod(leaf.type)) podDemandPopulate(host, d, gfn, leaf.order);
  p2mUnlock(host, d);
}
