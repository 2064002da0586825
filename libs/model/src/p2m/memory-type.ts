// The memory type of a leaf, as Xen's epte_get_entry_emt computes it. It is a function of what the leaf maps and of what the
// domain may reach, so it is computed when asked for and not kept. What matters to the tables is that one superpage cannot have
// two: such a leaf is written as misconfigured, and the next touch splits it.
// Guest MTRRs are not modelled: a guest asks for write-back everywhere, and the host's MTRRs decide.
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, type Mfn, type Order } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';
import { isGrant, p2mType } from './types.ts';

/** `UC` uncached, `WB` write-back; `!`: whatever the guest's own page attributes say (ipat). */
export type MemoryType = 'UC' | 'UC!' | 'WB' | 'WB!';

/** A frame of mmio_ro_ranges: nobody but Xen writes to it. */
export function isMmioRo(h: Host, m: number): boolean {
  const { mmioRoRanges } = h.config;
  return mmioRoRanges?.some(({ start, end }) => m >= start && m < end) ?? false;
}

/** Some of 2^order frames is in mmio_ro_ranges. */
export const touchesMmioRo = (h: Host, m: number, order: Order): boolean =>
  h.config.mmioRoRanges?.some(({ start, end }) => m < end && m + 2 ** order > start) ?? false;

const withinMmioRo = (h: Host, m: number, order: Order): boolean =>
  h.config.mmioRoRanges?.some(({ start, end }) => m >= start && m + 2 ** order <= end) ?? false;

/** The domain reaches devices or I/O memory; otherwise caches are none of its business. */
const reachesIo = (d: Domain): boolean => d.has('iommu') || d.r.iomemCount > 0;

const isHostRam = (h: Host, m: number): boolean =>
  h.config.memoryMap.some(({ addr, size, type }) => type === 1 && m * 4096 >= addr && m * 4096 < addr + size);

/** Xen's own pages among 2^order frames. */
function specialPages(h: Host, m: number, order: Order): number {
  const { flags } = h.frames;
  let special = 0;
  for (let i = m; i < m + 2 ** order; i++) if (((flags[i] as number) & frameFlag.special) !== 0) special++;
  return special;
}

/** null: the 2^order frames from `m` do not agree on one. */
export function memoryTypeOf(h: Host, d: Domain, m: Mfn, order: Order, type: number): MemoryType | null {
  if (type === p2mType.mmioDirect) {
    if (withinMmioRo(h, m, order)) return 'UC!';
    return touchesMmioRo(h, m, order) ? null : 'UC';
  }
  if (!reachesIo(d)) return 'WB!';
  if (isGrant(type) || type === p2mType.mapForeign) return 'WB!';
  if (!h.frames.valid(m)) return 'UC!';
  if (type === p2mType.lent && isHostRam(h, m)) return 'WB!';
  const special = specialPages(h, m, order);
  if (special > 0) return special === 2 ** order ? 'WB!' : null;
  return isHostRam(h, m) ? 'WB' : 'UC';
}

/** A superpage whose frames need different types. */
export const mixesMemoryTypes = (h: Host, d: Domain, m: number, order: Order, type: number): boolean =>
  order > 0 && m !== INVALID_MFN && memoryTypeOf(h, d, m as Mfn, order, type) === null;
