// ATS: a device that keeps translations in a TLB of its own (VT-d "device-IOTLB") and sends translated requests, which no
// unit checks again. Owns which devices do so on this host, and the end of it for one whose TLB does not answer an
// invalidation. The entries themselves are a TranslationCache under domain id 0; who fills it is translation.ts.
import { domainCrash } from '../domain/crash.ts';
import { formatSbdf } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import type { HostConfig } from '../host-config.ts';
import type { TranslationCache } from './translation-cache.ts';

/** Device TLBs know no domain: a function has one address space. */
export const DEVICE_TLB_DID = 0;

/** Policy, unit and device all have it, and the unit can be told to invalidate by its queue (as Xen's ats_device). */
export function hasDeviceTlb(config: HostConfig, device: number): boolean {
  const { ats, unit: id } = config.devices[device] ?? {};
  const unit = config.units.find((candidate) => candidate.id === id);
  return config.policies.ats === 'on' && ats === true && unit?.ats === true && unit.queuedInvalidation !== false;
}

/** The device's TLB while it uses one. */
export function deviceTlb(h: Host, device: number): TranslationCache | null {
  const tlb = h.iommu.deviceTlbs[device] ?? null;
  return tlb !== null && h.iommu.read(device, 'atsOff') === 0 ? tlb : null;
}

/**
 * The device did not say in time that it dropped its entries: it may use them for ever. ATS is switched off, the device is
 * broken and its domain is crashed (as iommu_dev_iotlb_flush_timeout; dom0 goes on).
 */
export function deviceTlbTimedOut(h: Host, device: number): void {
  h.iommu.write(device, 'atsOff', 1);
  h.iommu.write(device, 'broken', 1);
  const owner = h.domain(h.iommu.ownerOf(device));
  if (owner === null) return;
  const line = `dom${owner.domid}: ATS device ${formatSbdf(h.iommu.device(device).sbdf)} flush failed`;
  h.platform.printk(line);
  if (!owner.isHardware) domainCrash(h, owner, `domain_crash called from iommu.c: ${line}`);
}
