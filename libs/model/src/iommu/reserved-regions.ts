// Reserved device memory (RMRRs) of devices: their maps in the domain that gets the device.
// Caller holds the pcidevs lock.
import type { Domain } from '../domain/domain.ts';
import type { Host } from '../host.ts';
import type { RmrrConfig } from '../host-config.ts';
import { errno } from '../hypercall/errno.ts';
import { p2mAccess } from '../p2m/types.ts';
import { iommuIdentityMapping, UNMAP_IDENTITY } from './identity-mapping.ts';
import { regionsOf } from './regions-of.ts';

const PAGE = 4096;

const bounds = (region: RmrrConfig): string =>
  `[${(region.startPfn * PAGE).toString(16)},${((region.endPfn + 1) * PAGE - 1).toString(16)}]`;

function mapRegion(h: Host, d: Domain, region: RmrrConfig, flag: number): number {
  const rc = iommuIdentityMapping(h, d, p2mAccess.rw, region.startPfn, region.endPfn, flag);
  if (rc !== 0) h.platform.printk(`[VT-D]d${d.domid}: cannot map reserved region ${bounds(region)}: ${rc}`);
  return rc;
}

/** Maps every region of the device in `d`, or none: at an error what was mapped for it is unmapped again. */
export function mapRegions(h: Host, d: Domain, device: number, flag: number): number {
  const done: RmrrConfig[] = [];
  for (const region of regionsOf(h, device)) {
    const rc = mapRegion(h, d, region, flag);
    // An overlap left no node of ours behind; any other error may have (some pages are mapped then).
    if (rc !== -errno.EADDRINUSE) done.push(region);
    if (rc === 0) continue;
    unmap(h, d, done);
    return rc;
  }
  return 0;
}

/** dom0 gets every region once for each device in its scope, there or not; an error is logged and the rest goes on. */
export function mapRegionsAtBoot(h: Host): void {
  for (const region of h.config.rmrrs) for (const _ of region.devices) mapRegion(h, h.dom0, region, 0);
}

/** A device came: dom0 needs its regions once more. An error is logged only. */
export function mapRegionsOnArrival(h: Host, device: number): void {
  for (const region of regionsOf(h, device)) mapRegion(h, h.dom0, region, 0);
}

/** Takes one user of every region of the device away. Goes on after errors; the first other than -ENOENT is answered. */
export const unmapRegions = (h: Host, d: Domain, device: number): number => unmap(h, d, regionsOf(h, device));

function unmap(h: Host, d: Domain, regions: readonly RmrrConfig[]): number {
  let result = 0;
  for (const region of regions) {
    const rc = iommuIdentityMapping(h, d, UNMAP_IDENTITY, region.startPfn, region.endPfn, 0);
    if (rc === 0 || rc === -errno.ENOENT) continue;
    h.platform.printk(`[VT-D]d${d.domid}: cannot unmap reserved region ${bounds(region)}: ${rc}`);
    if (result === 0) result = rc;
  }
  return result;
}
