// The one table of what travels in a call: per operation its fields, in wire order, each with its check. A call on the wire is
// `[op, field, field, …]`. The compiler holds the table against the model's `Call` type: an operation or field that is
// missing here, or extra, or of another type, does not build. What the values mean is the hypervisor's business: bounds here
// only keep a number a number, so that Xen's own errno answers what it would refuse.

import { z } from 'zod';
import type { CallOf, OpName } from '#model/hypercall/calls';
import {
  type Check,
  count,
  extents,
  flag,
  frame,
  integer,
  oneOf,
  order,
  records,
  safe,
  text,
  u16,
  u32,
} from './checks.ts';

type Fields<C> = { readonly [K in Exclude<keyof C, 'op'>]-?: Check<Exclude<C[K], undefined>> };
type CallTable = { readonly [N in OpName]: Fields<CallOf<N>> };

/** XENMEM_add_to_physmap's batch has a 16-bit size. */
export const BATCH_MAX = 0xffff;
/** Frames one `load` may read: its answer carries a tag for each. */
export const LOAD_MAX = 0x10000;
const LIST_MAX = 4096;
/** One more than the hypervisor takes, so that its own answer applies. */
const GRANT_OPS_MAX = 4097;
const domid = u16;

export const callTable = {
  populate_physmap: { domid, order, memFlags: u32, extents: extents() },
  increase_reservation: { domid, order, count },
  decrease_reservation: { domid, order, extents: extents() },
  set_pod_target: { domid, targetPages: safe },
  get_pod_target: { domid },
  add_to_physmap: { domid, space: u32, idx: safe, gpfn: frame, size: u32 },
  add_to_physmap_batch: {
    domid,
    space: u32,
    foreignDomid: domid,
    idxs: extents(BATCH_MAX),
    gpfns: extents(BATCH_MAX),
  },
  remove_from_physmap: { domid, gpfn: frame },
  acquire_resource: { domid, type: u16, id: u16, frame: u32, gfns: extents(BATCH_MAX) },
  set_memory_map: { domid, entries: records(LIST_MAX, { addr: safe, size: safe, type: oneOf(1, 2, 3, 4, 5) }) },
  memory_map: {},
  claim_pages: { domid, pages: safe },
  maximum_gpfn: { domid },
  reserved_device_memory_map: { flags: u32, sbdf: u32, capacity: u32 },
  createdomain: {
    domid,
    name: text(256),
    hvm: flag,
    hap: flag,
    iommu: flag,
    noSharept: flag,
    vcpus: u32,
    deviceModel: flag,
  },
  destroydomain: { domid },
  pausedomain: { domid },
  unpausedomain: { domid },
  getdomaininfo: { domid },
  getdomaininfolist: { first: u32, max: u32 },
  max_mem: { domid, maxKb: safe },
  set_paging_mempool_size: { domid, bytes: safe },
  get_paging_mempool_size: { domid },
  shadow_op: { domid, sop: u32, mode: u32, pages: frame, copy: flag, mb: u32 },
  iomem_permission: { domid, firstMfn: frame, nrMfns: frame, allow: flag },
  memory_mapping: { domid, firstGfn: frame, firstMfn: frame, nrMfns: frame, add: flag },
  assign_device: { domid, sbdf: u32, flags: u32 },
  deassign_device: { domid, sbdf: u32 },
  test_assign_device: { domid, sbdf: u32 },
  get_device_group: { domid, sbdf: u32, max: u32 },
  pci_device_add: { sbdf: u32 },
  pci_device_remove: { sbdf: u32 },
  create_ioreq_server: { domid },
  destroy_ioreq_server: { domid, id: u32 },
  map_mem_type_to_ioreq_server: { domid, id: u32, memType: u32, flags: u32 },
  set_mem_type: { domid, memType: u32, first: frame, count: u32 },
  modified_memory: { domid, first: frame, count: u32 },
  track_dirty_vram: { domid, first: frame, count: u32 },
  gnttab_map_grant_ref: { ops: records(GRANT_OPS_MAX, { hostAddr: safe, flags: u32, ref: u32, domid }) },
  gnttab_unmap_grant_ref: { ops: records(GRANT_OPS_MAX, { hostAddr: safe, devBusAddr: safe, handle: u32 }) },
  gnttab_copy: {
    ops: records(GRANT_OPS_MAX, {
      sourceDomid: domid,
      sourceFrame: frame,
      sourceOffset: u16,
      destDomid: domid,
      destFrame: frame,
      destOffset: u16,
      length: u16,
      flags: u32,
    }),
  },
  gnttab_transfer: { ops: records(GRANT_OPS_MAX, { gfn: frame, domid, ref: u32 }) },
  gnttab_setup_table: { domid, nrFrames: u32 },
  gnttab_get_status_frames: { domid, nrFrames: u32 },
  gnttab_query_size: { domid },
  gnttab_set_version: { version: u32 },
  gnttab_get_version: { domid },
  iommu_op: {
    ops: records(LIST_MAX, {
      kind: oneOf(
        'query_caps',
        'map_page',
        'unmap_page',
        'map_foreign_page',
        'lookup_foreign_page',
        'unmap_foreign_page',
      ),
      bfn: frame,
      gfn: frame,
      domid,
      flags: u32,
    }),
  },
  gfn_to_mfn: { domid, gfns: extents(LOAD_MAX) },
  set_target: { domid, target: domid },
  lend_open: { domid, first: frame, count: frame, order: u32, onFailure: u32 },
  lend_close: { domid, first: frame },
  lend: { domid, first: frame, gfns: extents(), flags: u32, sequence: safe },
  revoke: { domid, first: frame, count: frame, writeProtect: flag },
  lend_faults: { wait: flag },
  lend_sequence: { domid, gfn: frame },
  lend_fail: { domid, gfn: frame },
  physinfo: {},
  page_offline_op: { cmd: oneOf('offline', 'online', 'query'), start: frame, end: frame },
  readconsole: { from: safe },
  shutdown: { reason: u32 },
  remote_shutdown: { domid, reason: u32 },
  console_io: { text: text(16_384) },
  touch: { frames: extents() },
  store: { frames: extents(), tag: u32 },
  load: { frames: extents(LOAD_MAX) },
  verify: { frames: extents(), tag: u32 },
  grant_entry_set: {
    gfn: frame,
    index: u32,
    version: u32,
    flags: u16,
    domid,
    frame,
    start: u16,
    length: u16,
    transDomid: domid,
    transRef: u32,
  },
  grant_entry_end: { gfn: frame, index: u32, version: u32 },
  grant_entry_query: { gfn: frame, index: u32, version: u32 },
  device_submit: {
    sbdf: u32,
    commands: records(LIST_MAX, {
      kind: oneOf('read', 'write'),
      frames: extents(),
      tag: u32,
      repeat: integer(2 ** 32),
    }),
  },
  device_wait: { sbdf: u32, job: safe },
  device_reset: { sbdf: u32 },
  gpu_table_write: { device: u32, entries: records(LIST_MAX, { gfn: frame, index: u32, frame, bits: u32 }) },
  gpu_request: {
    device: u32,
    kind: oneOf('create-root', 'destroy-root', 'submit', 'tlb-invalidate', 'ballooned'),
    a: u32,
    b: frame,
  },
  gpu_job_start: { device: u32, root: frame, page: frame, pages: frame, write: flag, tag: u32, passes: frame },
  gpu_job_wait: { device: u32, stop: flag },
  gpu_attach: { device: u32, domid, mappable: frame, unmappable: frame },
  gpu_detach: { device: u32, domid },
  gpu_serve: { device: u32, wait: flag },
} as const satisfies CallTable;

/** One operation's columns, as the codec walks them. */
export interface CallColumns {
  readonly op: OpName;
  readonly names: readonly string[];
  readonly checks: readonly Check<unknown>[];
}

function columnsOf(op: OpName): CallColumns {
  // The codec pairs each value with its own field's check, so the element type is immaterial to it.
  const fields = callTable[op] as unknown as Record<string, Check<unknown>>;
  return { op, names: Object.keys(fields), checks: Object.values(fields) };
}

// Object.keys loses the key type that the table has.
const opNames = Object.keys(callTable) as OpName[];

/** Looked up by what a guest wrote: a Map, so that `constructor` is no operation. */
export const callColumns: ReadonlyMap<unknown, CallColumns> = new Map(opNames.map((op) => [op, columnsOf(op)]));

/** The wire form of every call as zod schemas, derived from the table: for the protocol page, and to check the codec. */
export const callSchemas: ReadonlyMap<OpName, z.ZodType> = new Map(
  opNames.map((op) => {
    const { checks } = columnsOf(op);
    return [op, z.tuple([z.literal(op), ...checks.map((check) => check.schema)])];
  }),
);
