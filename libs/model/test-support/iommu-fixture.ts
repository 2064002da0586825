// Hosts and domains for the IOMMU's specs: as the p2m fixture's, with an IOMMU in use.
import type { Domain } from '#model/domain/domain';
import { domainFeature } from '#model/domain/domain-record';
import { type Mfn, type Sbdf, sbdf } from '#model/frames/addresses';
import type { Host } from '#model/host';
import { type DeviceConfig, defaultPolicies, type HostConfig, type ModelPolicies } from '#model/host-config';
import { bootAssignAll } from '#model/iommu/hotplug';
import { iommuDomainInit } from '#model/iommu/iommu';
import { bareDomain, bootSmall, type Fixture } from './p2m-fixture.ts';

export const GPU = sbdf(0, 0, 2, 0);
export const NIC = sbdf(0, 3, 0, 0);
export const USB = sbdf(0, 0, 0x1a, 0);

export function deviceConfig(address: Sbdf, name: string, rest: Partial<DeviceConfig> = {}): DeviceConfig {
  return {
    sbdf: address,
    name,
    vendor: 0x8086,
    device: 1,
    pciClass: 0x020000,
    unit: 0,
    upstreamBridge: null,
    bars: [],
    ...rest,
  };
}

export const policies = (some: Partial<ModelPolicies> = {}): ModelPolicies => ({
  ...defaultPolicies,
  iommuTables: 'separate',
  ...some,
});

/** A domain behind the IOMMU, p2m ready, no device. */
export function ioDomain(h: Host, domid: number, pool = 512): Domain {
  const d = bareDomain(h, domid, pool);
  d.r.features |= domainFeature.iommu;
  if (iommuDomainInit(h, d) !== 0) throw new Error('iommuDomainInit');
  return d;
}

/** A host with dom0, which owns all devices. */
export function bootWithDom0(overrides: Partial<HostConfig> = {}): Fixture & { readonly dom0: Domain } {
  const fixture = bootSmall({
    policies: policies(),
    devices: [deviceConfig(GPU, 'gpu', { pciClass: 0x030000 }), deviceConfig(NIC, 'nic'), deviceConfig(USB, 'usb')],
    ...overrides,
  });
  const dom0 = ioDomain(fixture.h, 0);
  bootAssignAll(fixture.h);
  return { ...fixture, dom0 };
}

/** Gives frames [m, m + pages) to `d` as its RAM, as the heap would. */
export function ownFrames(h: Host, d: Domain, m: number, pages: number): void {
  h.frames.fillBlock(m as Mfn, pages, d.domid, 1, 1);
}
