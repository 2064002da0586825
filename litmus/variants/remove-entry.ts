// Taking an entry out of the p2m as it was: without repair of what failed half way, and with an entry that hardware does not accept
// taken for one that is not there.
import type { World } from '#explore/world';
import type { Domain } from '#model/domain/domain';
import { putAllocRef, putPage } from '#model/domain/memory';
import { INVALID_MFN, type Mfn, type Order } from '#model/frames/addresses';
import type { Host } from '#model/host';
import { ROOT_LEVEL, SLOT_MISCONFIG, SLOT_SP, slotFrame, slotLow, tableOffset } from '#model/p2m/entry';
import { getGfn, P2M_QUERY, putGfn } from '#model/p2m/get-entry';
import { p2mLock, p2mTlbFlushSync, p2mUnlock } from '#model/p2m/p2m';
import { Leaf } from '#model/p2m/peek-entry';
import { p2mSetEntry } from '#model/p2m/set-entry';
import { p2mAccess, p2mType } from '#model/p2m/types';
import { load } from '#model/shared-memory/slots';
import { SLOTS_PER_TABLE } from '#model/shared-memory/table-pages';

/** XSA-389: guest_physmap_remove_page, and nobody looks what is still mapped when a part of it fails. */
export function removePageBefore389(w: World, domid: number, gfn: number, m: Mfn, order: Order): number {
  const { host } = w;
  const d = w.domain(domid);
  p2mLock(host, d);
  host.frames.clearM2pBlock(m, 2 ** order);
  const rc = p2mSetEntry(host, d, gfn, INVALID_MFN, order, p2mType.invalid, p2mAccess.rwx);
  p2mUnlock(host, d);
  return rc;
}

/** XSA-393: guest_remove_page of RAM; the entry is cleared only where hardware finds one. */
export function removeRamBefore393(w: World, domid: number, gfn: number): void {
  const { host } = w;
  const d = w.domain(domid);
  const leaf = new Leaf();
  getGfn(host, d, gfn, P2M_QUERY, leaf);
  const m = leaf.mfn;
  if (host.frames.getPage(m, d.domid)) {
    host.frames.clearM2pBlock(m, 1);
    if (hardwareAccepts(host, d, gfn)) {
      p2mSetEntry(host, d, gfn, INVALID_MFN, 0, p2mType.invalid, p2mAccess.rwx);
      p2mTlbFlushSync(host, d);
    }
    putAllocRef(host, m);
    putPage(host, m);
  }
  putGfn(host, d);
}

function hardwareAccepts(h: Host, d: Domain, gfn: number): boolean {
  let table: number = d.r.p2mRoot;
  for (let level = ROOT_LEVEL; level >= 0; level--) {
    const slot = load(h.tables.slots, table * SLOTS_PER_TABLE + tableOffset(gfn, level));
    if (slot === 0 || (slotLow(slot) & SLOT_MISCONFIG) !== 0) return false;
    if (level === 0 || (slotLow(slot) & SLOT_SP) !== 0) return true;
    table = slotFrame(slot);
  }
  return true;
}
