// A host for benches: no devices, RAM enough for its tables, one domain with I/O tables of its own, superpages off.
import type { Domain } from '#model/domain/domain';
import { domainFeature } from '#model/domain/domain-record';
import { createHost, Host } from '#model/host';
import { defaultPolicies } from '#model/host-config';
import { iommuDomainInit } from '#model/iommu/iommu';

export function bareHost(tablePages: number): { readonly h: Host; readonly d: Domain } {
  const frames = tablePages + 1024;
  const h = new Host(
    createHost({
      name: 'bench',
      pcpus: 1,
      dmaThreads: 0,
      maxDomains: 2,
      frames,
      heapRanges: [{ start: 1, end: frames }],
      memoryMap: [],
      hap: true,
      ept: { superpage2m: true, superpage1g: true },
      iommuEnabled: true,
      units: [],
      quarantine: 'basic',
      devices: [],
      rmrrs: [],
      tablePages,
      policies: { ...defaultPolicies, iommuTables: 'separate', iommuSuperpages: 'off' },
    }),
    0,
    { printk: () => {}, violation: () => {} },
  );
  h.heap.addRange(1, frames);
  const d = h.claimSlot(1, false);
  if (!d || d === 'exists') throw new Error('a fresh host has a free slot');
  d.r.features = domainFeature.hvm | domainFeature.iommu;
  if (iommuDomainInit(h, d) !== 0) throw new Error('a fresh host has memory for a table');
  return { h, d };
}
