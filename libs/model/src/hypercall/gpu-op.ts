// A guest's driver and the GPU that it shares: entries of its tables, requests through the mediator's page, jobs. Whoever waits for
// the mediator or for the GPU keeps no CPU. A payload is hostile: everything is looked at before it is used.
import { enterGuest, leaveGuest } from '../domain/pause.ts';
import { jobState } from '../gpu/gpu-jobs.ts';
import { CONTEXTS_PER_VM, type GpuState, VM_CELLS, vmCell } from '../gpu/gpu-memory.ts';
import { notifyCode } from '../gpu/graphics-memory.ts';
import { ENTRIES, makePte, PTE_PRESENT, PTE_WRITE } from '../gpu/pte.ts';
import { collect, newsSeen, post, requestKind } from '../gpu/requests.ts';
import type { Host } from '../host.ts';
import { resetFaults } from '../iommu/faults.ts';
import { AccessOutcome, accessResult, guestAccess } from '../p2m/guest-access.ts';
import { p2mType } from '../p2m/types.ts';
import type { CallOf } from './calls.ts';
import { isCount, isExtentCount, isFrame, isTag } from './checks.ts';
import { blocked, type Caller, type ContinuationState, done, goOn, type Outcome, rc } from './continuation.ts';
import { errno } from './errno.ts';
import type { GpuRequestKind, TableEntry } from './gpu-calls.ts';

/** Stage of a call whose request is in the page and not answered yet. */
const ASKED = 1;

/** What the caller has of a shared GPU. */
interface Share {
  readonly gpu: GpuState;
  readonly sbdf: number;
  readonly slot: number;
  /** A function of its own: nobody mediates. */
  readonly function: boolean;
}

/** -ENODEV: no such GPU, or the caller has no part of it; -EPERM: somebody else's function. */
function shareOf(h: Host, caller: Caller, device: unknown): Share | number {
  const index = isCount(device) ? h.devices.indexOf(device) : -1;
  if (index < 0) return -errno.ENODEV;
  const { domid, slot } = caller.domain;
  const { sbdf, physicalFunction } = h.iommu.device(index);
  const gpu = h.gpus.all.find(({ config }) => config.sbdf === sbdf || config.sbdf === physicalFunction);
  if (!gpu) return -errno.ENODEV;
  if (gpu.config.sbdf === sbdf) {
    const attached = gpu.vms[slot * VM_CELLS + vmCell.domid] === domid + 1;
    return attached ? { gpu, sbdf, slot, function: false } : -errno.ENODEV;
  }
  return h.iommu.ownerOf(index) === domid ? { gpu, sbdf, slot, function: true } : -errno.EPERM;
}

const waitFor = ({ gpu }: Share, seen: number, state: ContinuationState): Outcome =>
  blocked({ on: 'gpu', gpu: gpu.index, seen }, state);

/** The mediator's answer to a request, over as many slices as it takes: a number, or how the slice ends. */
function askMediator(
  share: Share,
  asked: boolean,
  request: { readonly kind: number; readonly a: number; readonly b: number; readonly c: number },
  at: number,
): number | Outcome {
  const { gpu, slot } = share;
  // Another vCPU's request is under way: soon it is not.
  if (!asked && !post(gpu, { slot, ...request })) return goOn({ at });
  const seen = newsSeen(gpu);
  return collect(gpu, slot) ?? waitFor(share, seen, { at, stage: ASKED });
}

const isEntry = (e: TableEntry): boolean =>
  typeof e === 'object' &&
  e !== null &&
  isFrame(e.gfn) &&
  isFrame(e.frame) &&
  isCount(e.index) &&
  e.index < ENTRIES &&
  isCount(e.bits) &&
  e.bits <= (PTE_PRESENT | PTE_WRITE);

/**
 * Stores entries as a vCPU stores to its memory; where a page is write-protected the mediator is asked to. 0; -EFAULT: no memory
 * there; -ENOMEM: the model cannot keep the page's contents; -EINVAL, -ENODEV, -EPERM.
 */
export function gpuTableWrite(
  h: Host,
  caller: Caller,
  call: CallOf<'gpu_table_write'>,
  state: ContinuationState | null,
): Outcome {
  const share = shareOf(h, caller, call.device);
  if (typeof share === 'number') return rc(share);
  const { entries } = call;
  if (!Array.isArray(entries) || !isExtentCount(entries.length)) return rc(-errno.EFAULT);
  if (!(entries as readonly TableEntry[]).every(isEntry)) return rc(-errno.EINVAL);
  let asked = state?.stage === ASKED;
  for (let at = state?.at ?? 0; at < entries.length; at++) {
    const entry = entries[at] as TableEntry; // in range by the loop's test
    const pte = makePte(entry.frame, entry.bits);
    const stored = asked ? null : storeEntry(h, caller, entry.gfn, entry.index, pte);
    if (stored === 0) continue;
    if (stored === 'held') return blocked({ on: 'unpause', domid: caller.domain.domid }, { at });
    if (typeof stored === 'number') return done({ rc: stored, written: at });
    if (share.function) return done({ rc: -errno.EFAULT, written: at });
    const request = { kind: requestKind.pteWrite, a: entry.gfn, b: entry.index, c: pte };
    const answer = askMediator(share, asked, request, at);
    if (typeof answer !== 'number') return answer;
    asked = false;
    // The server went away meanwhile: the instruction runs again.
    if (answer !== 0) at--;
  }
  return done({ rc: 0, written: entries.length });
}

/** 0, a negative errno, 'held', or null: the page's type is ioreq_server, its server has to do it. */
function storeEntry(h: Host, { domain: d }: Caller, gfn: number, index: number, pte: number): number | 'held' | null {
  if (!enterGuest(d)) return 'held';
  const out = new AccessOutcome();
  let kept = true;
  try {
    out.effect = (m) => {
      kept = h.gpus.contents.write(m, index, pte);
    };
    const result = guestAccess(h, d, gfn, 0, out);
    if (result === accessResult.ok) return kept ? 0 : -errno.ENOMEM;
    return result === accessResult.emulated && out.type === p2mType.ioreqServer ? null : -errno.EFAULT;
  } finally {
    leaveGuest(d);
  }
}

/** As the mediator's request page has them: kind and its first two arguments. */
const requests: Readonly<Record<GpuRequestKind, (a: number, b: number) => readonly [number, number, number, number]>> =
  {
    'create-root': (a, b) => [requestKind.notify, notifyCode.l4Create, a, b],
    'destroy-root': (a) => [requestKind.notify, notifyCode.l4Destroy, a, 0],
    submit: (a) => [requestKind.submit, a, 0, 0],
    'tlb-invalidate': () => [requestKind.tlbInvalidate, 0, 0, 0],
    ballooned: () => [requestKind.invalidate, 0, 0, 0],
  };

/** What the mediator answers. With a function of its own there is nobody to ask: -EOPNOTSUPP. */
export function gpuRequest(
  h: Host,
  caller: Caller,
  call: CallOf<'gpu_request'>,
  state: ContinuationState | null,
): Outcome {
  const share = shareOf(h, caller, call.device);
  if (typeof share === 'number') return rc(share);
  if (share.function) return rc(-errno.EOPNOTSUPP);
  if (!Object.hasOwn(requests, call.kind) || !isCount(call.a) || !isFrame(call.b)) return rc(-errno.EINVAL);
  const [kind, a, b, c] = requests[call.kind](call.a, call.b);
  const answer = askMediator(share, state?.stage === ASKED, { kind, a, b, c }, 0);
  return typeof answer === 'number' ? rc(answer) : answer;
}

/** 0; -EBUSY: its last job still runs; -EINVAL. A GPU that hung at its last job is reset first. */
export function gpuJobStart(h: Host, caller: Caller, call: CallOf<'gpu_job_start'>): Outcome {
  const share = shareOf(h, caller, call.device);
  if (typeof share === 'number') return rc(share);
  const { root, page, pages, write, tag, passes } = call;
  const counts = [root, page, pages, passes].every(isFrame) && pages > 0;
  if (!counts || !isTag(tag) || typeof write !== 'boolean') return rc(-errno.EINVAL);
  if (!share.function && root >= CONTEXTS_PER_VM) return rc(-errno.EINVAL);
  const { gpu, slot, sbdf } = share;
  const { incarnation } = caller.domain.r;
  if (gpu.jobs.state(slot) !== jobState.ready && gpu.jobs.get(slot, 'busFaults') > 0) {
    resetFaults(h, h.devices.indexOf(sbdf));
  }
  if (!gpu.jobs.submit(slot, { sbdf, incarnation, root, page, pages, write, tag, passes })) return rc(-errno.EBUSY);
  h.devices.wake(h.devices.indexOf(gpu.config.sbdf));
  return rc(0);
}

/** The figures of the caller's job once it has ended; -ENOENT: it has none; -EIO: the GPU hung at a fault of the bus. */
export function gpuJobWait(h: Host, caller: Caller, call: CallOf<'gpu_job_wait'>): Outcome {
  const share = shareOf(h, caller, call.device);
  if (typeof share === 'number') return rc(share);
  const { gpu, slot } = share;
  const { jobs } = gpu;
  const seen = newsSeen(gpu);
  const now = jobs.state(slot);
  if (now === jobState.none || jobs.get(slot, 'incarnation') !== caller.domain.r.incarnation) return rc(-errno.ENOENT);
  if (now === jobState.ready) {
    if (call.stop === true) jobs.stop(slot);
    return waitFor(share, seen, { at: 0 });
  }
  const busFaults = jobs.get(slot, 'busFaults');
  const answer = {
    rc: busFaults > 0 ? -errno.EIO : 0,
    completed: jobs.get(slot, 'completed'),
    pageFaults: jobs.get(slot, 'pageFaults'),
    busFaults,
    firstFaultDfn: jobs.get(slot, 'firstFaultDfn'),
  };
  jobs.release(slot);
  return done(answer);
}
