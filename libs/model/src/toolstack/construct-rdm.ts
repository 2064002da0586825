// Reserved device memory (RMRRs) against an HVM guest's RAM: which regions the guest must know, how far low RAM is pushed
// down to make room, and whether a conflict stops the build. As libxl__domain_device_construct_rdm. It asks the hypervisor
// through a port and changes nothing but the numbers it returns.

import { alignDown, FOUR_GIB, MIB, overlaps } from './e820.ts';

export type RdmStrategy = 'host' | 'ignore';
/** Of a request, `invalid` means not specified; of a result, do not show this region to the guest. */
export type RdmPolicy = 'strict' | 'relaxed' | 'invalid';

export interface RdmRegion {
  readonly startPfn: number;
  readonly nrPages: number;
}

/** XENMEM_reserved_device_memory_map, in the hypervisor's order. `Device` is whatever names a device to the port. */
export interface RdmQuery<Device> {
  all(): readonly RdmRegion[];
  forDevice(device: Device): readonly RdmRegion[];
}

export interface RdmEntry {
  readonly start: number;
  readonly size: number;
  policy: RdmPolicy;
}

export interface RdmRequest<Device> {
  readonly lowmemEnd: number;
  readonly highmemEnd: number;
  readonly hap: boolean;
  readonly strategy: RdmStrategy;
  readonly policy: RdmPolicy;
  readonly boundaryMemkb: number;
  readonly pcidevs: readonly { readonly device: Device; readonly rdmPolicy: RdmPolicy }[];
}

export interface RdmPlan {
  readonly ok: boolean;
  readonly lowmemEnd: number;
  readonly highmemEnd: number;
  readonly rdms: RdmEntry[];
  /** libxl's log lines, without its prefix. */
  readonly warnings: string[];
  readonly errors: string[];
}

const PAGE = 4096;

function collect<Device>(r: RdmRequest<Device>, query: RdmQuery<Device>): RdmEntry[] | null {
  const rdms: RdmEntry[] = [];
  const entry = (region: RdmRegion, policy: RdmPolicy): RdmEntry => ({
    start: region.startPfn * PAGE,
    size: region.nrPages * PAGE,
    policy,
  });
  if (r.strategy === 'host') {
    const all = query.all();
    if (all.length === 0) return null; // the devices are not even asked
    for (const region of all) rdms.push(entry(region, r.policy));
  }
  for (const pci of r.pcidevs) {
    // Unset is strict for a device, although the global default is relaxed (libxl__device_pci_setdefault).
    const policy = pci.rdmPolicy === 'invalid' ? 'strict' : pci.rdmPolicy;
    for (const region of query.forDevice(pci.device)) {
      const known = rdms.find((e) => e.start === region.startPfn * PAGE);
      if (known) known.policy = policy;
      else rdms.push(entry(region, policy));
    }
  }
  return rdms;
}

export function constructRdm<Device>(r: RdmRequest<Device>, query: RdmQuery<Device>): RdmPlan {
  const unchanged = { lowmemEnd: r.lowmemEnd, highmemEnd: r.highmemEnd, rdms: [], warnings: [], errors: [] };
  if (r.strategy === 'ignore' && r.pcidevs.length === 0) return { ok: true, ...unchanged };
  const rdms = collect(r, query);
  if (rdms === null) return { ok: true, ...unchanged };

  let { lowmemEnd, highmemEnd } = r;
  for (const rdm of rdms) {
    if (!overlaps(0, lowmemEnd, rdm.start, rdm.size) || rdm.start <= r.boundaryMemkb * 1024) continue;
    // HAP: keep low RAM in whole 2M pages.
    const end = r.hap && rdm.start > 2 * MIB ? alignDown(rdm.start, 2 * MIB) : rdm.start;
    highmemEnd = (highmemEnd || FOUR_GIB) + (lowmemEnd - end);
    lowmemEnd = end;
  }

  const plan = { lowmemEnd, highmemEnd, rdms, warnings: [] as string[], errors: [] as string[] };
  for (const rdm of rdms) {
    const conflict =
      overlaps(0, lowmemEnd, rdm.start, rdm.size) ||
      (highmemEnd !== 0 && overlaps(FOUR_GIB, highmemEnd - FOUR_GIB, rdm.start, rdm.size));
    if (!conflict) continue;
    if (rdm.policy === 'strict') {
      plan.errors.push(`RDM conflict at 0x${rdm.start.toString(16)}.`);
      return { ok: false, ...plan };
    }
    plan.warnings.push(`Ignoring RDM conflict at 0x${rdm.start.toString(16)}.`);
    rdm.policy = 'invalid';
  }
  return { ok: true, ...plan };
}
