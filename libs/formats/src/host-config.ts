// From a host description to what the hypervisor boots on: heap ranges in frames, units and devices by number, the run's
// policies. Owns that translation and where Xen keeps its own memory; reads no file.
import { PAGE_SIZE } from '#model/frames/addresses';
import {
  type DeviceConfig,
  type FrameRange,
  type HostConfig,
  type MediatedGpuConfig,
  tablePagesFor,
} from '#model/host-config';
import type { E820Type } from '#model/hypercall/calls';
import type { HostDescription, HostDevice, HostRegion, HostSharedGpu, RegionType } from './host-file.ts';
import { modelPolicies, type Policies } from './policies.ts';

const E820_TYPE: Readonly<Record<RegionType, E820Type>> = { usable: 1, reserved: 2, acpi: 3, nvs: 4, unusable: 5 };
/** Xen leaves the first MiB to real-mode code and never gives it to a domain. */
const LOW_FRAMES = 2 ** 20 / PAGE_SIZE;
const FRAMES_PER_MIB = 2 ** 20 / PAGE_SIZE;
const FOUR_GIB_FRAMES = 2 ** 32 / PAGE_SIZE;

export interface HostConfigOptions {
  readonly dmaThreads?: number;
  readonly maxDomains?: number;
}

/** What `host` is to the model under `policies`. */
export function hostConfig(host: HostDescription, policies: Policies, options: HostConfigOptions = {}): HostConfig {
  const usable = usableFrames(host.memoryMap);
  const heapRanges = heapOf(usable, host.xenReservedMb, host.heapLimitMb);
  const ramFrames = heapRanges.reduce((sum, r) => sum + r.end - r.start, 0);
  return {
    name: host.name,
    pcpus: host.pcpus,
    dmaThreads: options.dmaThreads ?? 1,
    maxDomains: options.maxDomains ?? 64,
    frames: usable.reduce((top, r) => Math.max(top, r.end), 0),
    heapRanges,
    memoryMap: host.memoryMap.map((r) => ({ addr: r.start, size: r.end + 1 - r.start, type: E820_TYPE[r.type] })),
    hap: host.hap,
    ept: { superpage2m: host.ept.superpages.includes('2M'), superpage1g: host.ept.superpages.includes('1G') },
    iommuEnabled: host.iommuUnits.length > 0,
    units: host.iommuUnits.map(({ id, caps }) => ({
      id,
      superpage2m: caps.superpages.includes('2M'),
      superpage1g: caps.superpages.includes('1G'),
      snoopControl: caps.snoop,
      cachingMode: caps.cachingMode,
      pageSelectiveInvalidation: caps.psi,
      maxAddressMask: caps.maxAm,
      levels: caps.agaw === 48 ? 4 : 3,
      domainIds: caps.domainIds,
      ats: caps.ats,
      queuedInvalidation: caps.queuedInvalidation,
      writeBufferFlush: caps.rwbf,
    })),
    quarantine: host.quarantine,
    devices: host.devices.map(deviceConfig),
    rmrrs: host.rmrrs.map(({ start, end, devices }) => ({
      startPfn: Math.floor(start / PAGE_SIZE),
      endPfn: Math.floor(end / PAGE_SIZE),
      devices,
    })),
    ...(host.rmrrOption === null ? {} : { rmrrOption: host.rmrrOption }),
    // Whole pages, as Xen protects them.
    mmioRoRanges: host.mmioReadOnly.map(({ start, end }) => ({
      start: Math.floor(start / PAGE_SIZE),
      end: Math.floor(end / PAGE_SIZE) + 1,
    })),
    ...(host.busSpaceMb > 0 ? { busFrames: host.busSpaceMb * FRAMES_PER_MIB } : {}),
    ...(host.sharedGpus.length > 0 ? { mediatedGpus: host.sharedGpus.map((gpu) => mediatedGpu(gpu, host)) } : {}),
    tablePages: tablePagesFor(ramFrames),
    policies: modelPolicies(policies),
  };
}

/** The aperture is a window of the device: host-checks.ts has seen it. */
function mediatedGpu(gpu: HostSharedGpu, host: HostDescription): MediatedGpuConfig {
  const device = host.devices.find(({ sbdf }) => sbdf === gpu.device);
  const aperture = device?.bars.find(({ index }) => index === gpu.apertureBar);
  return {
    sbdf: gpu.device,
    gmPages: gpu.graphicsMemoryMb * FRAMES_PER_MIB,
    aperturePages: Math.floor((aperture?.size ?? 0) / PAGE_SIZE),
    apertureBase: aperture?.hostAddr ?? 0,
    tables: gpu.tables,
  };
}

function deviceConfig(device: HostDevice): DeviceConfig {
  const { iommu, bars, hasFlr: _, kind, secondaryBus, phantomStride, physicalFunction, ...rest } = device;
  return {
    ...rest,
    unit: iommu ?? -1,
    bars: bars.map((b) => ({ ...b, index: b.kind === 'rom' ? ('rom' as const) : b.index })),
    ...(kind === null ? {} : { kind }),
    ...(secondaryBus === null ? {} : { secondaryBus }),
    ...(phantomStride === null ? {} : { phantomStride }),
    ...(physicalFunction === null ? {} : { physicalFunction }),
  };
}

/** RAM in whole frames: ranges are rounded inwards (firmware's need not be page aligned). */
export function usableFrames(map: readonly HostRegion[]): FrameRange[] {
  return map
    .filter((r) => r.type === 'usable')
    .map((r) => ({ start: Math.ceil(r.start / PAGE_SIZE), end: Math.floor((r.end + 1) / PAGE_SIZE) }))
    .filter((r) => r.start < r.end);
}

/**
 * Xen keeps its own below 4 GiB, from the top down (where it moves itself to at boot), and only then above. A limit takes
 * the rest from the top of all RAM, as a smaller machine would lack it.
 */
function heapOf(usable: readonly FrameRange[], xenMb: number, limitMb: number | null): FrameRange[] {
  const ranges = usable
    .map((r) => ({ start: Math.max(r.start, LOW_FRAMES), end: r.end }))
    .filter((r) => r.start < r.end);
  const low = ranges.filter((r) => r.start < FOUR_GIB_FRAMES).toReversed();
  const high = ranges.filter((r) => r.start >= FOUR_GIB_FRAMES).toReversed();
  const left = takeFromTop([...low, ...high], xenMb * FRAMES_PER_MIB);
  if (limitMb !== null) takeFromTop([...high, ...low], left - limitMb * FRAMES_PER_MIB);
  return ranges.filter((r) => r.start < r.end);
}

/** Shortens the ranges in their order, each from its end; answers how many frames are left in all. */
function takeFromTop(ranges: readonly { start: number; end: number }[], frames: number): number {
  let toTake = Math.max(0, frames);
  let left = 0;
  for (const r of ranges) {
    const taken = Math.min(toTake, r.end - r.start);
    r.end -= taken;
    toTake -= taken;
    left += r.end - r.start;
  }
  return left;
}
