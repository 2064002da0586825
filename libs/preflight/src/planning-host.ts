// A machine as the planner of guests asks it: the toolstack's view (capabilities, devices, reserved regions), taken from the same
// host configuration that the hypervisor process would boot on.
import { hostConfig } from '#formats/host-config';
import { resolvePolicies } from '#formats/policies';
import type { HostConfig, RmrrConfig } from '#model/host-config';
import { type Sharing, sharing } from '#model/iommu/sharing';
import type { RdmRegion } from '#model/toolstack/construct-rdm';
import type { PlanningHost } from './guest-layout.ts';
import { covers, isShared, type Machine } from './machine.ts';

/** What the toolstack takes as least, and with it every guest. */
const PHYS_BITS_MIN = 39;

export interface PlanningView {
  readonly host: PlanningHost;
  readonly sharing: Sharing;
  /** Pages that guests can have: the heap, less dom0. */
  readonly freeKb: number;
}

/** Xen reports whole pages, one past the last of which is PFN_UP of the inclusive end. */
const regionOf = ({ startPfn, endPfn }: RmrrConfig): RdmRegion => ({ startPfn, nrPages: endPfn + 1 - startPfn });

export function planningView(machine: Machine): PlanningView {
  const config = hostConfig(machine.host, resolvePolicies({}));
  const shared =
    machine.iommu === 'AMD-Vi' ? { shared: false, reason: 'AMD-Vi never shares the CPU’s tables' } : sharing(config);
  const heapPages = config.heapRanges.reduce((sum, { start, end }) => sum + end - start, 0);
  return {
    host: planningHost(machine, config, shared),
    sharing: shared,
    freeKb: heapPages * 4 - machine.host.dom0.memoryMb * 1024,
  };
}

function planningHost(machine: Machine, config: HostConfig, { shared }: Sharing): PlanningHost {
  const sbdfs = config.devices.map(({ sbdf }) => sbdf);
  const top = config.memoryMap.reduce((end, { addr, size }) => Math.max(end, addr + size), 1);
  return {
    caps: {
      hap: config.hap,
      shadow: false,
      hvmDirectio: config.iommuEnabled,
      iommuHapPtShare: shared,
      nodes: 1,
      onlineCpus: config.pcpus,
    },
    devices: config.devices,
    rdm: {
      all: () => config.rmrrs.map(regionOf),
      forDevice: (sbdf) => config.rmrrs.filter(({ devices }) => devices.includes(sbdf)).map(regionOf),
    },
    shared: new Set(sbdfs.filter((sbdf) => machine.ranges.some((range) => isShared(range) && covers(range, sbdf)))),
    map: config.memoryMap,
    physBits: Math.max(PHYS_BITS_MIN, Math.ceil(Math.log2(top))),
  };
}
