// A look at one domain for a person or a test: what p2m, IOMMU and IOTLB hold for a gfn, and the gfn space as runs of one type.
// It reads live tables without a lock, as hardware does; `memoryMapOf` wants a safepoint.
import type { Domain } from '#model/domain/domain';
import { dfn, INVALID_MFN } from '#model/frames/addresses';
import type { Host } from '#model/host';
import { bank } from '#model/iommu/translation-cache';
import { didOf } from '#model/iommu/vtd/domain-ids';
import { REASON_NO_WRITE, WALK_READ, WALK_WRITE, walkLevel, walkTables } from '#model/iommu/walk';
import { levelOrder, slotFrame, slotLow, slotType } from '#model/p2m/entry';
import { leaves } from '#model/p2m/lifecycle';
import { memoryTypeOf } from '#model/p2m/memory-type';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';
import { p2mTypeName } from '#model/p2m/types';
import type { MemoryRun, Peek } from '#wire/hv-messages';

const LEVELS = 4;

/** `sbdf`: also says whether that device's unit has the page in its IOTLB; null: any unit. */
export function peek(h: Host, d: Domain, gfn: number, sbdf: number | null): Peek {
  const leaf = new Leaf();
  if (d.isTranslated) peekEntry(h, d, gfn, leaf);
  return {
    gfn,
    p2mType: p2mTypeName(leaf.type),
    mfn: leaf.mfn === INVALID_MFN ? -1 : leaf.mfn,
    order: leaf.order,
    memoryType: leaf.mfn === INVALID_MFN ? '' : (memoryTypeOf(h, d, leaf.mfn, 0, leaf.type) ?? ''),
    ...deviceView(h, d, gfn),
    iotlb: inIotlb(h, d, gfn, sbdf),
    shared: d.has('hapPtShare'),
  };
}

function deviceView(h: Host, d: Domain, frame: number): Pick<Peek, 'iommu' | 'iommuMfn' | 'iommuOrder'> {
  const root = d.has('hapPtShare') ? d.r.p2mRoot : d.r.iommuRoot;
  if (!d.has('iommu') || root === 0) return { iommu: 'off', iommuMfn: -1, iommuOrder: 0 };
  const { slots } = h.tables;
  const readable = walkTables(slots, root, dfn(frame), WALK_READ, LEVELS);
  const writable = walkTables(slots, root, dfn(frame), WALK_WRITE, LEVELS);
  const found = Math.max(readable, writable);
  if (found < 0) return { iommu: 'absent', iommuMfn: -1, iommuOrder: 0 };
  const iommu = readable < 0 ? 'wo' : writable === -REASON_NO_WRITE ? 'ro' : 'mapped';
  return { iommu, iommuMfn: slotFrame(found), iommuOrder: levelOrder(walkLevel(found)) };
}

function inIotlb(h: Host, d: Domain, frame: number, sbdf: number | null): boolean {
  const device = sbdf === null ? -1 : h.iommu.deviceIndex(sbdf);
  const units = device < 0 ? h.iommu.units : [h.iommu.unitOf(device)];
  return units.some((unit) =>
    [bank.leaf4k, bank.leaf2m, bank.leaf1g].some(
      (leaves) => unit.cache.lookup(leaves, didOf(unit, d.domid), frame) >= 0,
    ),
  );
}

/** Runs of consecutive gfns with leaves of one type and size, in gfn order; holes are left out. */
export function memoryMapOf(h: Host, d: Domain, maxRuns: number): { runs: MemoryRun[]; cut: boolean } {
  const runs: MemoryRun[] = [];
  for (const { gfn, slot, level } of leaves(h, d)) {
    const type = p2mTypeName(slotType(slotLow(slot)));
    const order = levelOrder(level);
    const end = gfn + 2 ** order;
    const last = runs.at(-1);
    if (last && last.end === gfn && last.type === type && last.order === order) last.end = end;
    else if (runs.length === maxRuns) return { runs, cut: true };
    else runs.push({ start: gfn, end, type, order });
  }
  return { runs, cut: false };
}
