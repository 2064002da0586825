// How a frame of the grant table came into a guest's p2m before the table's lock was kept for it.
import type { World } from '#explore/world';
import { putPage } from '#model/domain/memory';
import type { Mfn } from '#model/frames/addresses';
import { getTableFrame } from '#model/grant/table';
import { placePage } from '#model/hypercall/physmap-op';

/** Before XSA-384: the number is read under the table's lock, and used after it. */
export function mapStatusFrameUnheld(w: World, domid: number, gfn: number): number {
  const d = w.domain(domid);
  const t = w.host.grants.of(d);
  d.locks.grantTable.writeLock();
  const m = ((t.statusList[0] as number) - 1) as Mfn;
  d.locks.grantTable.writeUnlock();
  return m < 0 ? -1 : placePage(w.host, d, m, gfn);
}

/** XSA-384, before XSA-486: a reference keeps the frame while it is mapped, but the mapping holds none. */
export function mapStatusFrameReferenced(w: World, domid: number, gfn: number): number {
  const d = w.domain(domid);
  const m = getTableFrame(w.host, d, 0, true);
  if (m < 0) return m;
  const rc = placePage(w.host, d, m as Mfn, gfn);
  putPage(w.host, m as Mfn);
  return rc;
}
