// The slot of a leaf as hardware is to see it: type and access give the rights, the host takes some away.
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { levelOrder, makeLeaf, SLOT_MISCONFIG, SLOT_SNP, SLOT_W } from './entry.ts';
import { isMmioRo, mixesMemoryTypes } from './memory-type.ts';
import { mayHaveInvalidMfn, p2mType } from './types.ts';

/** A leaf of `level`. Devices that share the table snoop the caches where the IOMMU can; nobody writes to mmio_ro_ranges. */
export function leafOf(h: Host, d: Domain, m: Mfn | number, level: number, type: number, access: number): number {
  let slot = makeLeaf(m, level, type, access);
  if (type === p2mType.mmioDirect && isMmioRo(h, m) && slot % 4 >= SLOT_W) slot -= SLOT_W;
  if (d.has('hapPtShare') && h.iommu.snoop) slot += SLOT_SNP;
  return slot;
}

/** What a set writes: 0 = a hole. Only some types need no frame. A superpage of two memory types is for the next touch to split. */
export function newLeaf(h: Host, d: Domain, m: Mfn, level: number, type: number, access: number): number {
  if (type === p2mType.invalid || (m === INVALID_MFN && !mayHaveInvalidMfn(type))) return 0;
  const slot = leafOf(h, d, m, level, type, access);
  return mixesMemoryTypes(h, d, m, levelOrder(level), type) ? slot + SLOT_MISCONFIG : slot;
}
