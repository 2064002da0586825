// Grant copies as they were before two fixes.
import type { World } from '#explore/world';
import { putPage } from '#model/domain/memory';
import type { Mfn } from '#model/frames/addresses';
import { dropPin, type Pin, settleStatus } from '#model/grant/active-entry';
import { grantWord } from '#model/grant/grant-state';
import { setVersion } from '#model/grant/table';

/** Before XSA-236: the end of a copy puts the page, then takes the pin back. */
export function releaseReferenceFirst(w: World, granter: number, ref: number, kind: Pin, m: Mfn): void {
  const rd = w.domain(granter);
  const t = w.host.grants.of(rd);
  putPage(w.host, m);
  rd.locks.grantTable.readLock();
  rd.locks.grantActive.lock();
  dropPin(t, ref, kind);
  settleStatus(t, ref);
  rd.locks.grantActive.unlock();
  rd.locks.grantTable.readUnlock();
}

/** Before XSA-501: copies that go on after having dropped the table's lock are not counted, so a change of version sees none. */
export function setVersionUncounted(w: World, domid: number, version: number): void {
  const d = w.domain(domid);
  const { head } = w.host.grants.of(d);
  const counted = Atomics.exchange(head, grantWord.v2InFlight, 0);
  setVersion(w.host, d, version);
  Atomics.add(head, grantWord.v2InFlight, counted);
}
