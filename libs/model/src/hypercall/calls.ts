// Every request a vCPU can make of the hypervisor, as plain data, and what each answers. The same objects travel over the
// queues (libs/wire holds their schemas), are handed to the dispatcher live, and are passed directly in the explorer.
// The caller's identity is never in here: it is the queue (or the actor) the request came from.
//
// Numbers are frames unless the name says otherwise (`…Kb`, `bytes`). `rc` follows the hypercall's own convention
// (hypercall fact sheet): a count of extents for populate/increase/decrease, 0 or a negative errno elsewhere.

import type { GpuOps } from './gpu-calls.ts';

/** `count` extents, contiguous from `start` (stride 2^order); or extents scattered over a list of first frames. */
export type Extents = { readonly start: number; readonly count: number } | { readonly frames: ArrayLike<number> };

export const extentCount = (e: Extents): number => ('frames' in e ? e.frames.length : e.count);
export const extentAt = (e: Extents, index: number, order: number): number =>
  'frames' in e ? (e.frames[index] ?? -1) : e.start + index * 2 ** order;

export type E820Type = 1 | 2 | 3 | 4 | 5;
/** Byte address and byte size, as in the E820 a firmware hands on. */
export interface MemoryMapEntry {
  readonly addr: number;
  readonly size: number;
  readonly type: E820Type;
}

/** XENMEM_add_to_physmap spaces. */
export const physmapSpace = {
  sharedInfo: 0,
  grantTable: 1,
  gmfn: 2,
  gmfnRange: 3,
  gmfnForeign: 4,
  devMmio: 5,
} as const;
/** XENMEMF_* bits of `memFlags`. */
export const XENMEMF_populate_on_demand = 1 << 16;
/** XEN_DOMCTL_DEV_RDM_RELAXED */
export const DEV_RDM_RELAXED = 1;
/** XENMEM_RDM_ALL */
export const RDM_ALL = 1;

/** XEN_DOMCTL_SHADOW_OP_* */
export const shadowOp = {
  off: 0,
  enableLogdirty: 2,
  clean: 11,
  peek: 12,
  getAllocation: 30,
  setAllocation: 31,
  enable: 32,
} as const;
/** XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY, of `enable`'s mode. */
export const SHADOW_ENABLE_LOG_DIRTY = 1 << 2;
/** XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL, of the mode of `clean` and `peek`. */
export const SHADOW_LOGDIRTY_FINAL = 1;
/** HVMMEM_* of XEN_DMOP_set_mem_type (3 is unused). */
export const hvmMem = { ramRw: 0, ramRo: 1, mmioDm: 2, ioreqServer: 4 } as const;

/** Reason of a domain's shutdown (sched_op): the letter `xl list` shows follows from it. */
export const shutdownReason = { poweroff: 0, reboot: 1, suspend: 2, crash: 3, watchdog: 4, softReset: 5 } as const;

/** XEN_DOMINF_* */
export const domInfoFlag = { dying: 1, hvm: 2, shutdown: 4, paused: 8, blocked: 16, running: 32, hap: 256 } as const;

export interface DomainInfo {
  readonly domid: number;
  readonly name: string;
  /** domInfoFlag bits; the shutdown reason stands in bits 23:16. */
  readonly flags: number;
  readonly totPages: number;
  readonly maxPages: number;
  readonly outstandingPages: number;
  readonly onlineVcpus: number;
  readonly cpuTimeUs: number;
  readonly devices: readonly number[];
  readonly podEntries: number;
  readonly podCache: number;
}

export interface PhysInfo {
  readonly totalPages: number;
  readonly freePages: number;
  readonly scrubPages: number;
  readonly outstandingClaims: number;
  readonly pcpus: number;
  readonly hap: boolean;
  readonly iommu: boolean;
  readonly hapPtShare: boolean;
}

/** One operation of iommu_op; which fields count depends on the kind. `flags`: iommuOpFlag, the page order from bit 10 on. */
export interface IommuOp {
  readonly kind:
    | 'query_caps'
    | 'map_page'
    | 'unmap_page'
    | 'map_foreign_page'
    | 'lookup_foreign_page'
    | 'unmap_foreign_page';
  readonly bfn: number;
  readonly gfn: number;
  readonly domid: number;
  readonly flags: number;
}

type Op<Name extends string, Args, Answer = unknown> = {
  call: { readonly op: Name } & Args;
  answer: { rc: number } & Answer;
};

interface PodCounts {
  totPages: number;
  podCachePages: number;
  podEntries: number;
}

type Ops =
  // memory_op
  | Op<'populate_physmap', { domid: number; order: number; memFlags: number; extents: Extents }>
  | Op<'increase_reservation', { domid: number; order: number; count: number }>
  | Op<'decrease_reservation', { domid: number; order: number; extents: Extents }>
  | Op<'set_pod_target', { domid: number; targetPages: number }, Partial<PodCounts>>
  | Op<'get_pod_target', { domid: number }, Partial<PodCounts>>
  | Op<'add_to_physmap', { domid: number; space: number; idx: number; gpfn: number; size: number }>
  | Op<
      'add_to_physmap_batch',
      { domid: number; space: number; foreignDomid: number; idxs: Extents; gpfns: Extents },
      { errs?: readonly number[] }
    >
  | Op<'remove_from_physmap', { domid: number; gpfn: number }>
  | Op<
      'acquire_resource',
      { domid: number; type: number; id: number; frame: number; gfns: Extents },
      { size?: number; frames?: readonly number[] }
    >
  | Op<'set_memory_map', { domid: number; entries: readonly MemoryMapEntry[] }>
  | Op<'memory_map', Record<never, never>, { entries?: readonly MemoryMapEntry[] }>
  | Op<'claim_pages', { domid: number; pages: number }>
  | Op<'maximum_gpfn', { domid: number }>
  | Op<
      'reserved_device_memory_map',
      { flags: number; sbdf: number; capacity: number },
      { entries?: readonly { startPfn: number; nrPages: number }[]; required?: number }
    >
  // domctl
  | Op<
      'createdomain',
      {
        domid: number;
        name: string;
        hvm: boolean;
        hap: boolean;
        iommu: boolean;
        noSharept: boolean;
        vcpus: number;
        /** HVM with a device model; false for PVH. */
        deviceModel: boolean;
      },
      { domid?: number; incarnation?: number }
    >
  | Op<'destroydomain', { domid: number }>
  | Op<'pausedomain', { domid: number }>
  | Op<'unpausedomain', { domid: number }>
  | Op<'getdomaininfo', { domid: number }, { info?: DomainInfo }>
  | Op<'getdomaininfolist', { first: number; max: number }, { infos?: readonly DomainInfo[] }>
  | Op<'max_mem', { domid: number; maxKb: number }>
  | Op<'set_paging_mempool_size', { domid: number; bytes: number }>
  | Op<'get_paging_mempool_size', { domid: number }, { bytes?: number }>
  | Op<
      'shadow_op',
      {
        domid: number;
        /** shadowOp.* */
        sop: number;
        mode: number;
        /** clean and peek: gfns 0…pages-1. */
        pages: number;
        /** The caller wants the bitmap; without it only the figures. */
        copy: boolean;
        /** setAllocation: MiB of the paging pool. */
        mb: number;
      },
      {
        pages?: number;
        /** Pages that were dirty when the look began. */
        dirtyCount?: number;
        /** 32 gfns a word, the lowest in bit 0. */
        bitmap?: readonly number[];
        mb?: number;
      }
    >
  | Op<'iomem_permission', { domid: number; firstMfn: number; nrMfns: number; allow: boolean }>
  | Op<'memory_mapping', { domid: number; firstGfn: number; firstMfn: number; nrMfns: number; add: boolean }>
  | Op<'assign_device', { domid: number; sbdf: number; flags: number }>
  | Op<'deassign_device', { domid: number; sbdf: number }>
  | Op<'test_assign_device', { domid: number; sbdf: number }>
  | Op<'get_device_group', { domid: number; sbdf: number; max: number }, { sbdfs?: readonly number[] }>
  // physdev_op
  | Op<'pci_device_add', { sbdf: number }>
  | Op<'pci_device_remove', { sbdf: number }>
  // dm_op
  | Op<'create_ioreq_server', { domid: number }, { id?: number }>
  | Op<'destroy_ioreq_server', { domid: number; id: number }>
  | Op<'map_mem_type_to_ioreq_server', { domid: number; id: number; memType: number; flags: number }>
  | Op<'set_mem_type', { domid: number; memType: number; first: number; count: number }>
  | Op<'modified_memory', { domid: number; first: number; count: number }>
  | Op<'track_dirty_vram', { domid: number; first: number; count: number }, { bitmap?: readonly number[] }>
  // grant_table_op
  | Op<
      'gnttab_map_grant_ref',
      { ops: readonly { hostAddr: number; flags: number; ref: number; domid: number }[] },
      { results?: readonly { status: number; handle: number; devBusAddr: number }[] }
    >
  | Op<
      'gnttab_unmap_grant_ref',
      { ops: readonly { hostAddr: number; devBusAddr: number; handle: number }[] },
      { statuses?: readonly number[] }
    >
  | Op<
      'gnttab_copy',
      {
        ops: readonly {
          sourceDomid: number;
          /** A grant reference if the flags say so, else a gfn. */
          sourceFrame: number;
          sourceOffset: number;
          destDomid: number;
          destFrame: number;
          destOffset: number;
          length: number;
          flags: number;
        }[];
      },
      { statuses?: readonly number[] }
    >
  | Op<
      'gnttab_transfer',
      { ops: readonly { gfn: number; domid: number; ref: number }[] },
      { statuses?: readonly number[] }
    >
  | Op<'gnttab_setup_table', { domid: number; nrFrames: number }, { status?: number; frames?: readonly number[] }>
  | Op<'gnttab_get_status_frames', { domid: number; nrFrames: number }, { status?: number; frames?: readonly number[] }>
  | Op<'gnttab_query_size', { domid: number }, { status?: number; nrFrames?: number; maxFrames?: number }>
  | Op<'gnttab_set_version', { version: number }, { version?: number }>
  | Op<'gnttab_get_version', { domid: number }, { version?: number }>
  // iommu_op (PV-IOMMU), and XenGT's query
  | Op<'iommu_op', { ops: readonly IommuOp[] }, { statuses?: readonly number[] }>
  | Op<'gfn_to_mfn', { domid: number; gfns: Extents }, { mfns?: readonly number[] }>
  // memory lending (proposed, not Xen's): pages of the caller's in a window of a borrower
  | Op<'set_target', { domid: number; target: number }>
  | Op<'lend_open', { domid: number; first: number; count: number; order: number; onFailure: number }>
  | Op<'lend_close', { domid: number; first: number }>
  | Op<'lend', { domid: number; first: number; gfns: Extents; flags: number; sequence: number }, { done?: number }>
  | Op<'revoke', { domid: number; first: number; count: number; writeProtect: boolean }, { revoked?: number }>
  | Op<
      'lend_faults',
      { wait: boolean },
      { faults?: readonly { domid: number; vcpu: number; gfn: number; write: boolean; sequence: number }[] }
    >
  | Op<'lend_sequence', { domid: number; gfn: number }, { sequence?: number }>
  | Op<'lend_fail', { domid: number; gfn: number }>
  // sysctl, sched_op, console
  | Op<'physinfo', Record<never, never>, { info?: PhysInfo }>
  | Op<
      'page_offline_op',
      { cmd: 'offline' | 'online' | 'query'; start: number; end: number },
      { statuses?: readonly number[] }
    >
  | Op<'readconsole', { from: number }, { text?: string; next?: number }>
  | Op<'shutdown', { reason: number }>
  | Op<'remote_shutdown', { domid: number; reason: number }>
  | Op<'console_io', { text: string }>
  // what a vCPU does in guest mode: loads and stores through the p2m, one 32-bit tag a frame. `faulted` met no RAM; `mmio` of
  // them were answered by the window of a device
  | Op<'touch', { frames: Extents }, { done?: number; faulted?: number; mmio?: number }>
  | Op<'store', { frames: Extents; tag: number }, { done?: number; faulted?: number; mmio?: number }>
  | Op<'load', { frames: Extents }, { tags?: readonly number[]; faulted?: number }>
  | Op<
      'verify',
      { frames: Extents; tag: number },
      { bad?: number; firstBad?: number; found?: number; faulted?: number }
    >
  // … and to its own grant table, whose frame `index / entries a frame` it has at `gfn`
  | Op<
      'grant_entry_set',
      {
        gfn: number;
        index: number;
        version: number;
        flags: number;
        domid: number;
        frame: number;
        /** Version 2: the part of the page; and whose grant a transitive entry passes on. */
        start: number;
        length: number;
        transDomid: number;
        transRef: number;
      }
    >
  | Op<'grant_entry_end', { gfn: number; index: number; version: number }>
  | Op<'grant_entry_query', { gfn: number; index: number; version: number }, { flags?: number; inUse?: boolean }>
  // what a driver asks of its device: bounded bursts, run by a DMA thread through IOTLB and IOMMU
  | Op<'device_submit', { sbdf: number; commands: readonly DeviceCommand[] }, { job?: number }>
  | Op<'device_wait', { sbdf: number; job: number }, Partial<DmaOutcome>>
  | Op<'device_reset', { sbdf: number }>
  // a GPU that dom0 shares: a guest's driver, and the mediator
  | GpuOps;

/** One command of a device's command buffer: `repeat` passes over the frames; a write stores `tag`. */
export interface DeviceCommand {
  readonly kind: 'read' | 'write';
  readonly frames: Extents;
  readonly tag: number;
  readonly repeat: number;
}

export interface DmaOutcome {
  /** Transactions that reached a frame. */
  completed: number;
  faults: number;
  firstFaultDfn: number;
  firstFaultReason: number;
}

export type Call = Ops['call'];
export type OpName = Call['op'];
export type CallOf<N extends OpName> = Extract<Ops, { call: { op: N } }>['call'];
export type AnswerOf<N extends OpName> = Extract<Ops, { call: { op: N } }>['answer'];
export type Answer = Ops['answer'];

/**
 * How guest kernels and builders reach the hypervisor: synchronous. Live, a vCPU thread blocks in it while its process
 * does the queueing; in the explorer it is a direct call of the dispatcher.
 */
export interface Hypercalls {
  call<C extends Call>(call: C): AnswerOf<C['op']>;
  /** Entries in order, one result each (multicall, hypercall 13): one round trip for all of them. */
  multicall(calls: readonly Call[]): readonly Answer[];
}
