// A live directory entry of the EPT written in more than one store, as before XSA-328, and the walker that may meet it half written.
import type { World } from '#explore/world';
import type { Domain } from '#model/domain/domain';
import { allocDomheap } from '#model/domain/memory';
import type { Mfn } from '#model/frames/addresses';
import { makeMiddle, makeSlot, SLOT_R, SLOT_SP, SLOT_W, SLOT_X, slotFrame, tableOffset } from '#model/p2m/entry';
import { p2mLock, p2mUnlock } from '#model/p2m/p2m';
import { p2mAllocTable } from '#model/p2m/paging-pool';
import { guestPhysmapAddPage } from '#model/p2m/physmap';
import { load, store } from '#model/shared-memory/slots';
import { step, stepKind } from '#model/shared-memory/step';
import { SLOTS_PER_TABLE, type TableIndex, tableUse } from '#model/shared-memory/table-pages';

/** Index of the entry of level 1 on the way to `gfn`; the tables above it exist. */
function directorySlot(w: World, d: Domain, gfn: number): number {
  const { slots } = w.host.tables;
  let table: number = d.r.p2mRoot;
  for (let level = 3; level > 1; level--) {
    table = slotFrame(load(slots, table * SLOTS_PER_TABLE + tableOffset(gfn, level)));
  }
  return table * SLOTS_PER_TABLE + tableOffset(gfn, 1);
}

/** populate_physmap of one page where no table is yet: the new table's entry gets its rights, then its frame. */
export function populateRightsFirst(w: World, domid: number, gfn: number): void {
  const { host } = w;
  const d = w.domain(domid);
  const m = allocDomheap(host, d, 0) as Mfn;
  p2mLock(host, d);
  const table = p2mAllocTable(host, d) as TableIndex;
  const index = directorySlot(w, d, gfn);
  step(stepKind.ptWrite, index);
  store(host.tables.slots, index, makeSlot(0, SLOT_R | SLOT_W | SLOT_X));
  step(stepKind.ptWrite, index);
  store(host.tables.slots, index, makeMiddle(table));
  guestPhysmapAddPage(host, d, gfn, m, 0);
  p2mUnlock(host, d);
}

/** A hardware walk as far as the entry of level 1: what is present there names a table of the domain. */
export function walkDirectory(w: World, domid: number, gfn: number): void {
  const { tables } = w.host;
  const d = w.domain(domid);
  const index = directorySlot(w, d, gfn);
  step(stepKind.hwWalk, gfn);
  const slot = load(tables.slots, index);
  if ((slot & SLOT_R) === 0 || (slot & SLOT_SP) !== 0) return;
  const table = slotFrame(slot) as TableIndex;
  const own = tables.useOf(table) === tableUse.p2m && tables.domainSlotOf(table) === d.slot;
  const text = `a walker of d${domid} at gfn ${gfn.toString(16)} is sent to table ${table}, which nobody ever stored there`;
  w.require(own, 'walkerSeesOldOrNewEntryOnly', text);
}
