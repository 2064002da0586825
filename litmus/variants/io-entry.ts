// Live entries of I/O tables written as before they had to be whole: a superpage split into a table that is linked first, an entry
// stored field by field, a change of rights that nobody flushes.
import type { World } from '#explore/world';
import type { Mfn } from '#model/frames/addresses';
import { entryKind, updateMarkers, withoutMarker } from '#model/iommu/contiguity';
import { FLUSHF_all, FLUSHF_modified } from '#model/iommu/flags';
import { iommuIotlbFlush } from '#model/iommu/iommu';
import { allocIoTable } from '#model/iommu/table-pages';
import { linkTable, SLOT_LENT } from '#model/iommu/vtd/entry';
import { storeLeaves } from '#model/iommu/vtd/split';
import { makeSlot, SLOT_R, SLOT_SP, slotFrame, slotLow, tableOffset } from '#model/p2m/entry';
import { load, store } from '#model/shared-memory/slots';
import { step, stepKind } from '#model/shared-memory/step';
import { SLOTS_PER_TABLE, type TableIndex } from '#model/shared-memory/table-pages';

/** Slot of the entry of `level` for `dfn`; the tables above it exist. */
function slotOf(w: World, domid: number, dfn: number, level: number): number {
  let table: number = w.domain(domid).r.iommuRoot;
  for (let at = 3; at > level; at--) {
    table = slotFrame(load(w.host.tables.slots, table * SLOTS_PER_TABLE + tableOffset(dfn, at)));
  }
  return table * SLOTS_PER_TABLE + tableOffset(dfn, level);
}

/** Before Xen 2a758376f9: the superpage around `dfn` becomes a table, which is linked empty and filled then. */
export function splitLinkingFirst(w: World, domid: number, dfn: number): void {
  const { host } = w;
  const d = w.domain(domid);
  const { slots } = host.tables;
  d.locks.iommuMapping.lock();
  const index = slotOf(w, domid, dfn, 1);
  const leaf = withoutMarker(load(slots, index));
  const table = allocIoTable(host, d.slot) as TableIndex;
  linkTable(host, index, table);
  step(stepKind.ioWrite, table * SLOTS_PER_TABLE);
  storeLeaves(slots, table * SLOTS_PER_TABLE, leaf - SLOT_SP, 65536);
  d.r.iommuTables++;
  updateMarkers(slots, index - (index % SLOTS_PER_TABLE), index % SLOTS_PER_TABLE, 1, entryKind.table);
  d.locks.iommuMapping.unlock();
  iommuIotlbFlush(host, d, dfn - (dfn % 512), 512, FLUSHF_modified | FLUSHF_all);
}

/** Before XSA-347: the entry of `dfn` becomes a read-only one of `m`, its frame first and its rights then. */
export function replaceFrameFirst(w: World, domid: number, dfn: number, m: Mfn): void {
  const { host } = w;
  const d = w.domain(domid);
  const { slots } = host.tables;
  d.locks.iommuMapping.lock();
  const index = slotOf(w, domid, dfn, 0);
  const low = slotLow(load(slots, index)) | SLOT_LENT;
  step(stepKind.ioWrite, index);
  store(slots, index, makeSlot(m, low));
  step(stepKind.ioWrite, index);
  store(slots, index, makeSlot(m, (low & ~3) | SLOT_R));
  d.locks.iommuMapping.unlock();
  iommuIotlbFlush(host, d, dfn, 1, FLUSHF_modified);
}
