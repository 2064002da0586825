// The written form of a host description (hosts/*.yaml): keys, kinds of value, defaults. Owns the schema only; what makes
// a well-formed description a possible machine is checked in host-checks.ts.
import { z } from 'zod';
import { address, count, mebibytes, name, pciClass, pciId, positive, sbdfField, sizeBytes } from './yaml-fields.ts';

export const regionTypes = ['usable', 'reserved', 'acpi', 'nvs', 'unusable'] as const;
export const pciKinds = ['pcie', 'pci', 'host-bridge', 'pcie-bridge', 'pcie-to-pci-bridge', 'pci-bridge'] as const;
export const barKinds = ['io', 'mem32', 'mem32p', 'mem64', 'mem64p', 'rom'] as const;
/** Base address registers 0…5; 6 stands for the expansion ROM. */
export const ROM_INDEX = 6;

const superpageSizes = z.array(z.enum(['2M', '1G']));
const flag = z.boolean().default(false);

const region = z.strictObject({ start: address, end: address, type: z.enum(regionTypes) });

const unit = z.strictObject({
  id: count,
  caps: z.strictObject({
    superpages: superpageSizes,
    snoop: flag,
    cachingMode: flag,
    psi: flag,
    maxAm: count.max(52).default(0),
    agaw: z.literal([39, 48]),
    ats: flag,
    rwbf: flag,
    /** Domain ids (capability register, ND). */
    domainIds: z.literal([16, 64, 256, 1024, 4096, 16384, 65536]).default(65536),
    queuedInvalidation: z.boolean().default(true),
  }),
  devices: z.array(sbdfField).optional(),
  includeAll: flag,
});

const bar = z.strictObject({
  index: count.max(ROM_INDEX),
  size: sizeBytes,
  kind: z.enum(barKinds),
  hostAddr: address,
});

const device = z.strictObject({
  sbdf: sbdfField,
  name: z.string().min(1),
  id: pciId,
  class: pciClass,
  bars: z.array(bar).default([]),
  iommu: count.optional(),
  upstreamBridge: sbdfField.optional(),
  hasFlr: flag,
  /** How it appears on the bus; by default from the class code, an endpoint being PCI Express. */
  kind: z.enum(pciKinds).optional(),
  secondaryBus: count.max(0xff).optional(),
  /** Step between the function numbers that its requests carry besides its own. */
  phantomStride: z.literal([1, 2, 4]).optional(),
  ats: flag,
  physicalFunction: sbdfField.optional(),
  /** Not there at boot. */
  hotplug: flag,
});

const rmrr = z.strictObject({ start: address, end: address, devices: z.array(sbdfField).min(1) });

/** A GPU that dom0 can share among guests: by a mediator that shadows their tables, or by its own functions (SR-IOV). */
const sharedGpu = z.strictObject({
  device: sbdfField,
  /** What its global table covers; the first part lies behind the aperture, a window of the GPU. */
  graphicsMemoryMb: positive.max(4096),
  apertureBar: count.max(5),
  /** Guest tables that a mediator can shadow at a time. */
  tables: positive.max(4096).default(64),
});

export const hostSchema = z.strictObject({
  name,
  source: z.string().min(1),
  memoryMap: z.array(region).min(1),
  pcpus: positive.max(1024),
  dom0: z.strictObject({ memoryMb: mebibytes, vcpus: positive.max(128) }),
  hap: z.boolean(),
  ept: z.strictObject({ superpages: superpageSizes }),
  iommuUnits: z.array(unit),
  quarantine: z.enum(['basic', 'none', 'scratch-page']).default('basic'),
  devices: z.array(device),
  rmrrs: z.array(rmrr).default([]),
  /** Xen's command line option of that name. */
  rmrr: z.string().min(1).optional(),
  /** I/O memory that only Xen may write, such as MSI-X tables. */
  mmioReadOnly: z.array(z.strictObject({ start: address, end: address })).default([]),
  sharedGpus: z.array(sharedGpu).max(8).default([]),
  /** MiB of bus addresses above RAM that dom0 may manage itself (PV-IOMMU); 0: none. */
  busSpaceMb: count.max(65_536).default(0),
  xenReservedMb: mebibytes,
  /** MiB the heap gets in all, when less than the map has. */
  heapLimitMb: mebibytes.optional(),
});

export type ParsedHost = z.output<typeof hostSchema>;

/** Bytes of RAM in the map. */
export const usableBytes = (map: readonly { start: number; end: number; type: string }[]): number =>
  map.reduce((sum, r) => (r.type === 'usable' ? sum + r.end + 1 - r.start : sum), 0);
