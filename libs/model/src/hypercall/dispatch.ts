// The one entry of every hypercall: who calls, which handler, and what must hold when a call or a slice of it ends. The
// handlers check everything else. Caller: a pCPU thread, or the explorer's direct port.

import { isHeld } from '../domain/pause.ts';
import type { Host } from '../host.ts';
import { counter } from '../shared-memory/counters.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { acquireResource } from './acquire-resource.ts';
import {
  assignDeviceOp,
  deassignDeviceOp,
  getDeviceGroupOp,
  pciDeviceAdd,
  pciDeviceRemove,
  testAssignDeviceOp,
} from './assign-op.ts';
import type { Call, CallOf, OpName } from './calls.ts';
import { claimPages } from './claim.ts';
import { blocked, type Caller, type ContinuationState, type Outcome, rc } from './continuation.ts';
import { deviceReset, deviceSubmit, deviceWait } from './device-ops.ts';
import {
  createIoreqServerOp,
  destroyIoreqServerOp,
  mapMemTypeToIoreqServer,
  modifiedMemory,
  setMemType,
  trackDirtyVramOp,
} from './dm-op.ts';
import { getdomaininfo, getdomaininfolist } from './domain-info.ts';
import {
  createdomain,
  destroydomain,
  getPagingMempool,
  iomemPermission,
  maxMem,
  memoryMapping,
  pausedomain,
  setPagingMempool,
  unpausedomain,
} from './domctl.ts';
import { errno } from './errno.ts';
import { gpuJobStart, gpuJobWait, gpuRequest, gpuTableWrite } from './gpu-op.ts';
import { grantEntryEnd, grantEntryQuery, grantEntrySet } from './grant-entry-op.ts';
import {
  gnttabCopy,
  gnttabGetStatusFrames,
  gnttabGetVersion,
  gnttabMap,
  gnttabQuerySize,
  gnttabSetupTable,
  gnttabSetVersion,
  gnttabTransfer,
  gnttabUnmap,
} from './grant-op.ts';
import { load, store, touch, verify } from './guest-ops.ts';
import { lend, lendClose, lendFail, lendFaults, lendOpen, lendSequence, revoke, setTarget } from './lend-op.ts';
import { gpuAttach, gpuDetach, gpuServe } from './mediator-op.ts';
import {
  getPodTarget,
  maximumGpfn,
  memoryMap,
  reservedDeviceMemoryMap,
  setMemoryMap,
  setPodTarget,
} from './memory-op.ts';
import { nestedPort } from './nested-port.ts';
import { pageOfflineOp } from './page-offline.ts';
import { addToPhysmap, addToPhysmapBatch, removeFromPhysmap } from './physmap-op.ts';
import { gfnToMfn, iommuOp } from './pv-iommu-op.ts';
import { decreaseReservation, increaseReservation, populatePhysmap } from './reservation.ts';
import { shadowOpCall } from './shadow-op.ts';
import { consoleIo, physinfo, remoteShutdown, shutdown } from './sysctl.ts';

export type { Caller, ContinuationState, Outcome } from './continuation.ts';

const C_DONE = counter('hypercall.done');
const C_CONTINUED = counter('hypercall.continued');

type Handler<N extends OpName> = (h: Host, caller: Caller, call: CallOf<N>, state: ContinuationState | null) => Outcome;

const handlers: { readonly [N in OpName]: Handler<N> } = {
  populate_physmap: populatePhysmap,
  increase_reservation: increaseReservation,
  decrease_reservation: decreaseReservation,
  set_pod_target: setPodTarget,
  get_pod_target: getPodTarget,
  add_to_physmap: addToPhysmap,
  add_to_physmap_batch: addToPhysmapBatch,
  remove_from_physmap: removeFromPhysmap,
  acquire_resource: acquireResource,
  set_memory_map: setMemoryMap,
  memory_map: memoryMap,
  claim_pages: claimPages,
  maximum_gpfn: maximumGpfn,
  reserved_device_memory_map: reservedDeviceMemoryMap,
  createdomain,
  destroydomain,
  pausedomain,
  unpausedomain,
  getdomaininfo,
  getdomaininfolist,
  max_mem: maxMem,
  set_paging_mempool_size: setPagingMempool,
  get_paging_mempool_size: getPagingMempool,
  shadow_op: shadowOpCall,
  iomem_permission: iomemPermission,
  memory_mapping: memoryMapping,
  assign_device: assignDeviceOp,
  deassign_device: deassignDeviceOp,
  test_assign_device: testAssignDeviceOp,
  get_device_group: getDeviceGroupOp,
  pci_device_add: pciDeviceAdd,
  pci_device_remove: pciDeviceRemove,
  create_ioreq_server: createIoreqServerOp,
  destroy_ioreq_server: destroyIoreqServerOp,
  map_mem_type_to_ioreq_server: mapMemTypeToIoreqServer,
  set_mem_type: setMemType,
  modified_memory: modifiedMemory,
  track_dirty_vram: trackDirtyVramOp,
  gnttab_map_grant_ref: gnttabMap,
  gnttab_unmap_grant_ref: gnttabUnmap,
  gnttab_copy: gnttabCopy,
  gnttab_transfer: gnttabTransfer,
  gnttab_setup_table: gnttabSetupTable,
  gnttab_get_status_frames: gnttabGetStatusFrames,
  gnttab_query_size: gnttabQuerySize,
  gnttab_set_version: gnttabSetVersion,
  gnttab_get_version: gnttabGetVersion,
  grant_entry_set: grantEntrySet,
  grant_entry_end: grantEntryEnd,
  grant_entry_query: grantEntryQuery,
  iommu_op: iommuOp,
  gfn_to_mfn: gfnToMfn,
  set_target: setTarget,
  lend_open: lendOpen,
  lend_close: lendClose,
  lend,
  revoke,
  lend_faults: lendFaults,
  lend_sequence: lendSequence,
  lend_fail: lendFail,
  physinfo,
  page_offline_op: pageOfflineOp,
  // The console ring is the hypervisor process's: it answers this one before a call gets here.
  readconsole: () => rc(-errno.ENOSYS),
  shutdown,
  remote_shutdown: remoteShutdown,
  console_io: consoleIo,
  touch,
  store,
  load,
  verify,
  device_submit: deviceSubmit,
  device_wait: deviceWait,
  device_reset: deviceReset,
  gpu_table_write: gpuTableWrite,
  gpu_request: gpuRequest,
  gpu_job_start: gpuJobStart,
  gpu_job_wait: gpuJobWait,
  gpu_attach: (h, caller, call) => gpuAttach(h, caller, call, nestedPort(h, caller, runCall)),
  gpu_detach: (h, caller, call) => gpuDetach(h, caller, call, nestedPort(h, caller, runCall)),
  gpu_serve: (h, caller, call) => gpuServe(h, caller, call, nestedPort(h, caller, runCall)),
};

/**
 * Runs one slice of a call. `state` is null at first, then what the last `continue` or `blocked` outcome gave. No lock is
 * held on return. A caller whose domain is paused, shut down or dying does not get in.
 */
export function runCall(h: Host, caller: Caller, call: Call, state: ContinuationState | null): Outcome {
  const { domain } = caller;
  if (isHeld(domain)) return blocked({ on: 'unpause', domid: domain.domid }, state);
  step(stepKind.hypercall, domain.domid);
  // A payload names its own handler; that the two belong together is what the table's type says.
  const handler = handlers[call.op] as Handler<OpName> | undefined;
  h.current = domain;
  h.currentVcpu = caller.vcpu;
  h.preemptPending = () => caller.preempt();
  const outcome = handler ? handler(h, caller, call as CallOf<OpName>, state) : rc(-errno.ENOSYS);
  h.current = null;
  h.preemptPending = never;
  h.assert(h.lockTable.heldCount(h.cpu) === 0, `no lock is held after ${call.op}`);
  h.counters.add(outcome.end === 'done' ? C_DONE : C_CONTINUED);
  return outcome;
}

const never = (): boolean => false;
