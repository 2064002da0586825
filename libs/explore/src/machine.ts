// The small host that litmus tests run on: 16 MiB of RAM, one IOMMU, a GPU and a NIC. As small as superpages allow, because its
// memory is set back before every schedule.
import { sbdf } from '#model/frames/addresses';
import {
  capableUnit,
  type DeviceConfig,
  defaultPolicies,
  type HostConfig,
  type ModelPolicies,
} from '#model/host-config';

/** What a test may change. */
export type Machine = Partial<
  Pick<
    HostConfig,
    | 'frames'
    | 'tablePages'
    | 'units'
    | 'rmrrs'
    | 'quarantine'
    | 'devices'
    | 'ept'
    | 'maxDomains'
    | 'grantFrames'
    | 'busFrames'
    | 'mediatedGpus'
  >
> & {
  /** Pages of dom0; 0: it has none, and tests about guests alone are faster. */
  readonly dom0Pages?: number;
};

export const GPU = sbdf(0, 0, 2, 0);
export const NIC = sbdf(0, 3, 0, 0);

const device = (address: DeviceConfig['sbdf'], name: string, pciClass: number): DeviceConfig => ({
  sbdf: address,
  name,
  vendor: 0x8086,
  device: 1,
  pciClass,
  unit: 0,
  upstreamBridge: null,
  bars: [],
});

const FRAMES = 4096;
const TABLE_PAGES = 128;

/** A pCPU for each software actor, a DMA thread for each piece of hardware. */
export function machineConfig(
  machine: Machine,
  policies: Partial<ModelPolicies>,
  software: number,
  hardware: number,
): HostConfig {
  const { dom0Pages: _, ...given } = machine;
  const frames = given.frames ?? FRAMES;
  return {
    name: 'litmus',
    pcpus: Math.max(1, software),
    dmaThreads: Math.max(1, hardware),
    maxDomains: 4,
    heapRanges: [{ start: 0x10, end: frames }],
    memoryMap: [{ addr: 0, size: frames * 4096, type: 1 }],
    hap: true,
    ept: { superpage2m: true, superpage1g: true },
    iommuEnabled: true,
    units: [capableUnit],
    quarantine: 'basic',
    devices: [device(GPU, 'gpu', 0x030000), device(NIC, 'nic', 0x020000)],
    rmrrs: [],
    tablePages: TABLE_PAGES,
    grantFrames: 1,
    maptrackFrames: 1,
    ...given,
    frames,
    policies: { ...defaultPolicies, iommuTables: 'separate', ...policies },
  };
}
