// Marking a gfn populate-on-demand as it was before cc950c49ae: the entry is in the table before it is counted.
import type { World } from '#explore/world';
import { INVALID_MFN } from '#model/frames/addresses';
import { p2mLock, p2mUnlock } from '#model/p2m/p2m';
import { p2mSetEntry } from '#model/p2m/set-entry';
import { p2mAccess, p2mType } from '#model/p2m/types';
import { refusedByDevice } from '#model/pod/pod-state';

/** One hole becomes a PoD entry. The p2m lock is held over both halves, the pod lock over the count alone. */
export function markBeforeCount(w: World, domid: number, gfn: number): void {
  const { host } = w;
  const d = w.domain(domid);
  if (refusedByDevice(host, d)) return;
  p2mLock(host, d);
  const rc = p2mSetEntry(host, d, gfn, INVALID_MFN, 0, p2mType.populateOnDemand, p2mAccess.rwx);
  d.locks.pod.lock();
  if (rc === 0) d.r.podEntryCount++;
  d.locks.pod.unlock();
  p2mUnlock(host, d);
}
