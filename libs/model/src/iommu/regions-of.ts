// Which reserved regions (RMRRs) name a device. A look at the host's description; what a region does to a domain's tables is
// reserved-regions.ts.
import type { Host } from '../host.ts';
import type { RmrrConfig } from '../host-config.ts';

/** Regions that firmware reserved for the device, in the order of its table; those only that Xen kept at boot. */
export function regionsOf(h: Host, device: number): RmrrConfig[] {
  const { sbdf } = h.iommu.device(device);
  return h.config.rmrrs.filter((region) => region.devices.includes(sbdf));
}
