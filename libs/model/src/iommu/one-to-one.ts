// The I/O tables of a PV dom0 that is not strict: all of host RAM, bus frame = machine frame, whoever owns the frame (as Xen's
// arch_iommu_hwdom_init without dom0-iommu=strict). What XenGT was built on. A translated dom0 has no such mode: its bus space
// is its gfns.
import type { Domain } from '../domain/domain.ts';
import { domainFeature } from '../domain/domain-record.ts';
import { PAGE_SIZE } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { FlushFlags, IOMMUF_readable, IOMMUF_writable } from './flags.ts';
import { iommuIotlbFlushAll, iommuMap } from './iommu.ts';

/** Its tables are not changed with its memory, since they name everybody's. */
export const mapsAllRam = (d: Domain): boolean =>
  d.isHardware && d.has('iommu') && !d.isTranslated && !d.has('needSync');

/** At boot, before dom0 runs. 0, or what mapping answers. */
export function mapOneToOne(h: Host, dom0: Domain): number {
  if (!dom0.has('iommu')) return 0;
  h.assert(!dom0.isTranslated, 'only a PV dom0 has its bus frames equal to machine frames');
  const flush = new FlushFlags();
  for (const { addr, size, type } of h.config.memoryMap) {
    if (type !== 1) continue;
    const first = Math.ceil(addr / PAGE_SIZE);
    const pages = Math.floor((addr + size) / PAGE_SIZE) - first;
    if (pages <= 0) continue;
    const rc = iommuMap(h, dom0, first, first, pages, IOMMUF_readable | IOMMUF_writable, flush);
    if (rc !== 0) return rc;
  }
  dom0.r.features &= ~domainFeature.needSync;
  return iommuIotlbFlushAll(h, dom0, flush.bits);
}
