// What a device sees of a p2m leaf, and telling it of a change: with shared tables by a flush, with separate ones by a map or
// unmap (steps 6 and 10 of ept_set_entry). It never writes the p2m.
import type { Domain } from '../domain/domain.ts';
import type { Host } from '../host.ts';
import { FLUSHF_added, FLUSHF_modified, IOMMUF_readable, IOMMUF_writable } from '../iommu/flags.ts';
import { iommuIotlbFlush, iommuLegacyMap, iommuLegacyUnmap } from '../iommu/iommu.ts';
import { SLOT_R, SLOT_W, slotAccess, slotFrame, slotLow, slotType } from './entry.ts';
import { isMmioRo } from './memory-type.ts';
import { iommuRightsOf, p2mType } from './types.ts';

/** A device's rights through a leaf: with shared tables the CPU's r and w bits, otherwise by type (p2m_get_iommu_flags). */
export function deviceRights(h: Host, d: Domain, slot: number): number {
  if (slot === 0) return 0;
  const low = slotLow(slot);
  if (d.has('hapPtShare')) return low & (SLOT_R | SLOT_W);
  const type = slotType(low);
  const rights = iommuRightsOf(type, slotAccess(low));
  return type === p2mType.mmioDirect && isMmioRo(h, slotFrame(slot)) ? rights & ~SLOT_W : rights;
}

/**
 * A leaf of `pages` at `g` became `slot`, with `rights` for a device. 0; for dom0 the error of an unmap. Any other domain is
 * crashed by an error, and its callers look at that: dom0 is not, so its frame must then not be freed.
 */
export function updateIommu(
  h: Host,
  d: Domain,
  g: number,
  pages: number,
  slot: number,
  rights: number,
  oldPresent: boolean,
): number {
  if (!d.has('iommu')) return 0;
  if (d.has('hapPtShare')) {
    if (!h.iommu.dontFlush) {
      iommuIotlbFlush(h, d, g, pages, (rights !== 0 ? FLUSHF_added : 0) | (oldPresent ? FLUSHF_modified : 0));
    }
    return 0;
  }
  if (!d.has('needSync')) return 0;
  if (rights === 0) {
    const rc = iommuLegacyUnmap(h, d, g, pages);
    return d.isHardware ? rc : 0;
  }
  const flags = ((rights & 1) !== 0 ? IOMMUF_readable : 0) | ((rights & 2) !== 0 ? IOMMUF_writable : 0);
  iommuLegacyMap(h, d, g, slotFrame(slot), pages, flags);
  return 0;
}
