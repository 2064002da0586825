// What a host is made of, as plain data: what firmware and hardware would tell Xen at boot, and the policy knobs of a run.
// Everything is in frames unless the name says otherwise. Built by the hypervisor process from a hosts/*.yaml file.
import type { Sbdf } from './frames/addresses.ts';
import type { SharingPolicies } from './guest/activity/spec.ts';
import type { MemoryMapEntry } from './hypercall/calls.ts';

export interface FrameRange {
  readonly start: number;
  /** One past the last. */
  readonly end: number;
}

export interface IommuUnitConfig {
  readonly id: number;
  /** Second-level page sizes the unit can map (VT-d SLLPS). */
  readonly superpage2m: boolean;
  readonly superpage1g: boolean;
  readonly snoopControl: boolean;
  readonly cachingMode: boolean;
  readonly pageSelectiveInvalidation: boolean;
  /** log2 of the most pages one page-selective invalidation covers. */
  readonly maxAddressMask: number;
  readonly levels: 3 | 4;
  /** Domain ids the unit has (VT-d ND: 16, 64 … 65536); absent = 65536, where an id is the domain's number. */
  readonly domainIds?: number;
  /** Device TLBs can be invalidated; absent = no. */
  readonly ats?: boolean;
  /** Invalidations go through the queue in memory; absent = yes, false = by register. */
  readonly queuedInvalidation?: boolean;
  /** Written tables reach memory only after a write-buffer flush; absent = no. */
  readonly writeBufferFlush?: boolean;
}

/** A unit that can do all that is optional here: what a host has that is made up for a test, a bench or a litmus. */
export const capableUnit: IommuUnitConfig = {
  id: 0,
  superpage2m: true,
  superpage1g: true,
  snoopControl: true,
  cachingMode: false,
  pageSelectiveInvalidation: true,
  maxAddressMask: 18,
  levels: 4,
};

/** How a function appears on the bus, as far as its requests are concerned (Xen's pdev_type). */
export type PciKind = 'pcie' | 'pci' | 'host-bridge' | 'pcie-bridge' | 'pcie-to-pci-bridge' | 'pci-bridge';

export interface BarConfig {
  readonly index: number | 'rom';
  readonly size: number;
  readonly kind: 'io' | 'mem32' | 'mem32p' | 'mem64' | 'mem64p' | 'rom';
  readonly hostAddr: number;
}

export interface DeviceConfig {
  readonly sbdf: Sbdf;
  readonly name: string;
  readonly vendor: number;
  readonly device: number;
  readonly pciClass: number;
  readonly unit: number;
  /** Topmost upstream bridge, if any: devices behind one share a group. */
  readonly upstreamBridge: Sbdf | null;
  readonly bars: readonly BarConfig[];
  /** Absent: from the class code, an endpoint being PCIe. */
  readonly kind?: PciKind;
  /** Of a bridge; absent: the lowest bus of the devices behind it. */
  readonly secondaryBus?: number;
  /** Step between the function numbers that its requests carry besides its own; absent: none. */
  readonly phantomStride?: 1 | 2 | 4;
  /** It keeps translations in a TLB of its own; absent = no. */
  readonly ats?: boolean;
  /** The physical function of which this is a virtual one. */
  readonly physicalFunction?: Sbdf;
  /** Not there at boot: it comes by PHYSDEVOP_pci_device_add. */
  readonly hotplug?: boolean;
}

export interface RmrrConfig {
  readonly startPfn: number;
  /** Inclusive, as in firmware's table. */
  readonly endPfn: number;
  readonly devices: readonly Sbdf[];
}

/** The policy knobs the model knows; the first value named is what Xen does today. */
export interface ModelPolicies {
  readonly shatter: 'atomic' | 'naive' | 'break-before-make';
  readonly podWithPassthrough: 'refuse' | 'allow' | 'populate-first';
  readonly iommuTables: 'auto' | 'separate' | 'shared';
  readonly iommuSuperpages: 'on' | 'off';
  readonly iotlbFlush: 'sync' | 'deferred' | 'lost';
  readonly cpuFlush: 'deferred-to-unlock' | 'lost';
  readonly balloonOrder: '4k' | '2m';
  readonly foreignMapPlace: 'ballooned-hole' | 'top-of-ram';
  readonly ats: 'off' | 'on';
  readonly lendSharedTables: 'refuse' | 'allow';
  readonly p2mLockHold: 'whole-op' | 'per-batch';
  readonly p2mLockBatch: '64' | '1' | '8' | '512' | '4096';
  /** Whether identity and MMIO entries withstand calls that would replace them; `replaceable`: as before XSA-378. */
  readonly specialEntries: 'protected' | 'replaceable';
  /** Where reserved regions are mapped 1:1; `iommu-only`: as in 2014, not in the p2m, so nowhere where tables are shared. */
  readonly rmrrIdentity: 'p2m' | 'iommu-only';
  /**
   * What a shadow GPU entry holds: C a gfn of dom0 (foreign map), A the machine frame (PV dom0, all RAM mapped 1:1), B a bus frame
   * above RAM (PV-IOMMU); `gpa`: what the guest wrote, in the one table of the device.
   */
  readonly mediated: 'C' | 'A' | 'B' | 'gpa';
  /** How writes to guest GPU tables are seen: each is trapped, none (compared at submission), or by how often they come. */
  readonly gpuShadow: 'hybrid' | 'strict' | 'relaxed';
  /** What the mediator does wrong, if anything (gpu/mediator.ts). */
  readonly mediator: 'right' | 'walk-first' | 'no-invalidate' | 'tlb-late';
  /** PV-IOMMU as it should be, or with one of its historic mistakes (iommu/pv-iommu.ts). */
  readonly pvIommu: 'right' | 'drop-in-op' | 'reuse-unflushed' | 'one-flag';
  /** Tables below a window's 2M entries: made at its opening, or when a lend or a revocation needs one. */
  readonly lendTables: 'pre-split' | 'on-demand';
  /** A lent leaf holds a reference, and a dying lender's windows are closed first; or neither. */
  readonly lendFrames: 'counted' | 'uncounted';
  /** What a borrower's hypercalls find at a lent page. */
  readonly lendHypercalls: 'hole' | 'visible';
  /** What a call found out about a gfn still holds when it acts on it; `stale`: neither lock nor reference sees to that (XSA-379). */
  readonly p2mLookup: 'held' | 'stale';
  readonly share: SharingPolicies['share'];
  readonly mapping: SharingPolicies['mapping'];
  readonly retryCheck: SharingPolicies['retryCheck'];
  readonly gntdevUnmap: SharingPolicies['gntdevUnmap'];
  readonly gpuCallback: SharingPolicies['gpuCallback'];
  readonly grantBusy: SharingPolicies['grantBusy'];
}

export const defaultPolicies: ModelPolicies = {
  shatter: 'atomic',
  podWithPassthrough: 'refuse',
  iommuTables: 'auto',
  iommuSuperpages: 'on',
  iotlbFlush: 'sync',
  cpuFlush: 'deferred-to-unlock',
  balloonOrder: '4k',
  foreignMapPlace: 'ballooned-hole',
  ats: 'off',
  lendSharedTables: 'refuse',
  p2mLockHold: 'whole-op',
  p2mLockBatch: '64',
  specialEntries: 'protected',
  rmrrIdentity: 'p2m',
  mediated: 'C',
  gpuShadow: 'hybrid',
  mediator: 'right',
  pvIommu: 'right',
  lendTables: 'pre-split',
  lendFrames: 'counted',
  lendHypercalls: 'hole',
  p2mLookup: 'held',
  share: 'grant',
  mapping: 'notifier',
  retryCheck: 'under-lock',
  gntdevUnmap: 'asynchronous',
  gpuCallback: 'zap',
  grantBusy: 'defer',
};

export interface HostConfig {
  readonly name: string;
  /** CPUs that run, each a thread. */
  readonly pcpus: number;
  /** CPUs that the machine has, where fewer of them run: what physinfo says. */
  readonly nrCpus?: number;
  readonly dmaThreads: number;
  readonly maxDomains: number;
  /** Size of the frame table: one past the highest RAM frame. */
  readonly frames: number;
  /** RAM given to the heap at boot (usable ranges less what Xen keeps). */
  readonly heapRanges: readonly FrameRange[];
  readonly memoryMap: readonly MemoryMapEntry[];
  readonly hap: boolean;
  readonly ept: { readonly superpage2m: boolean; readonly superpage1g: boolean };
  readonly iommuEnabled: boolean;
  readonly units: readonly IommuUnitConfig[];
  readonly quarantine: 'basic' | 'none' | 'scratch-page';
  readonly devices: readonly DeviceConfig[];
  /** As firmware lists them; what Xen keeps of them is iommu/vtd/dmar.ts. */
  readonly rmrrs: readonly RmrrConfig[];
  /** Xen's own command line: reserved regions that firmware forgot, `rmrr=`. */
  readonly rmrrOption?: string;
  /** I/O memory that only Xen may write, such as MSI-X tables (Xen's mmio_ro_ranges). */
  readonly mmioRoRanges?: readonly FrameRange[];
  /** Page-table pages the arena can hold, all domains, p2m and IOMMU together. */
  readonly tablePages: number;
  /** Most frames of one domain's grant table, and of its map-track (gnttab_max_frames, gnttab_max_maptrack_frames); absent = 64, 1024. */
  readonly grantFrames?: number;
  readonly maptrackFrames?: number;
  /** Bus frames above RAM that dom0 may manage itself (PV-IOMMU); absent = none. */
  readonly busFrames?: number;
  /** GPUs that dom0 shares among guests; absent = none. */
  readonly mediatedGpus?: readonly MediatedGpuConfig[];
  readonly policies: ModelPolicies;
}

/** A GPU whose page tables a mediator in dom0 shadows (XenGT, GVT-g). */
export interface MediatedGpuConfig {
  readonly sbdf: Sbdf;
  /** Pages of graphics memory that the global table covers; the first `aperturePages` are also behind the BAR. */
  readonly gmPages: number;
  readonly aperturePages: number;
  /** Host address of that BAR. */
  readonly apertureBase: number;
  /** Guest tables that can be shadowed at a time. */
  readonly tables: number;
}

/** Table pages that always suffice for `ramFrames` of RAM mapped by 4K in p2m and IOMMU, with room for holes. */
export const tablePagesFor = (ramFrames: number): number => Math.ceil((ramFrames / 512) * 3) + 16_384;
