// dm_op: what a device model may do to the memory of its guest: change types, claim the pages of an ioreq server, watch video
// memory, say what it wrote. Only the control domain runs device models here.

import type { Domain } from '../domain/domain.ts';
import { putPage } from '../domain/memory.ts';
import { INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { markDirty } from '../p2m/dirty-bitmap.ts';
import { trackDirtyVram } from '../p2m/dirty-vram.ts';
import { getGfn, getPageFromGfn, P2M_ALLOC, putGfn } from '../p2m/get-entry.ts';
import { freeIoreqFrames } from '../p2m/ioreq-pages.ts';
import {
  claimIoreqPages,
  createIoreqServer,
  destroyIoreqServer,
  hasIoreqServer,
  IOREQ_MEM_ACCESS_WRITE,
} from '../p2m/ioreq-server.ts';
import { Leaf } from '../p2m/peek-entry.ts';
import { changeEntryTypeGlobal, changeTypeOne, finishTypeChange } from '../p2m/type-change.ts';
import { isHole, isPaging, isRam, p2mType } from '../p2m/types.ts';
import { type CallOf, hvmMem } from './calls.ts';
import { isCount, isPrivileged } from './checks.ts';
import { type Caller, type ContinuationState, done, goOn, type Outcome, rc } from './continuation.ts';
import { errno } from './errno.ts';

/** gfns between two preemption checks. */
const SLICE = 256;
/** Pages of video memory that may be watched: 1 GiB. */
const MAX_VRAM = 2 ** 18;

/** Another, HVM domain: -ESRCH, -EPERM for oneself, -EINVAL for PV, -EPERM without the privilege; in that order. */
function dmTarget(h: Host, caller: Caller, id: unknown): Domain | number {
  const d = isCount(id) ? h.domain(id) : null;
  if (!d) return -errno.ESRCH;
  if (d === caller.domain) return -errno.EPERM;
  if (!d.isTranslated) return -errno.EINVAL;
  return isPrivileged(caller) ? d : -errno.EPERM;
}

/** A range that neither wraps nor passes the highest gfn mapped so far. */
const inGuest = (d: Domain, first: unknown, count: unknown): boolean =>
  isCount(first) && isCount(count) && (count === 0 || first + count - 1 <= d.r.maxMappedPfn);

export function createIoreqServerOp(h: Host, caller: Caller, call: CallOf<'create_ioreq_server'>): Outcome {
  const d = dmTarget(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  const id = createIoreqServer(d);
  return id < 0 ? rc(id) : done({ rc: 0, id });
}

export function destroyIoreqServerOp(h: Host, caller: Caller, call: CallOf<'destroy_ioreq_server'>): Outcome {
  const d = dmTarget(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  const result = isCount(call.id) ? destroyIoreqServer(h, d, call.id) : -errno.ENOENT;
  if (result === 0) freeIoreqFrames(h, d, call.id);
  return rc(result);
}

/** flags 0 gives the claim up; every page of the type then becomes ordinary RAM, in slices (`at` = next gfn, Xen's opaque). */
export function mapMemTypeToIoreqServer(
  h: Host,
  caller: Caller,
  call: CallOf<'map_mem_type_to_ioreq_server'>,
  state: ContinuationState | null,
): Outcome {
  const d = dmTarget(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  const { id, memType, flags } = call;
  if (!d.has('hap')) return rc(-errno.EOPNOTSUPP);
  if (memType !== hvmMem.ioreqServer || !isCount(flags) || (flags & ~IOREQ_MEM_ACCESS_WRITE) !== 0) {
    return rc(-errno.EINVAL);
  }
  if (!isCount(id) || !hasIoreqServer(d, id)) return rc(-errno.ENOENT);
  if (!state) {
    const claimed = claimIoreqPages(h, d, id, flags);
    if (claimed !== 0 || flags !== 0) return rc(claimed);
    if (d.r.ioreqEntryCount > 0) changeEntryTypeGlobal(h, d, p2mType.ioreqServer, p2mType.ramRw);
  }
  for (let at = state?.at ?? 0; at <= d.r.maxMappedPfn && d.r.ioreqEntryCount > 0; at += SLICE) {
    if (at !== (state?.at ?? 0) && caller.preempt()) return goOn({ at });
    const result = finishTypeChange(h, d, at, SLICE);
    if (result !== 0) return rc(result);
  }
  return rc(0);
}

const typeOf = (memType: number): number | null => {
  switch (memType) {
    case hvmMem.ramRw:
      return p2mType.ramRw;
    case hvmMem.ramRo:
      return p2mType.ramRo;
    case hvmMem.mmioDm:
      return p2mType.mmioDm;
    case hvmMem.ioreqServer:
      return p2mType.ioreqServer;
    default:
      return null;
  }
};

/** allow_p2m_type_change */
function mayBecome(from: number, to: number): boolean {
  if (to === p2mType.ioreqServer) return from === p2mType.ramRw;
  if (from === p2mType.ioreqServer) return to === p2mType.ramRw;
  return isRam(from) || (isHole(from) && to === p2mType.mmioDm);
}

export function setMemType(
  h: Host,
  caller: Caller,
  call: CallOf<'set_mem_type'>,
  state: ContinuationState | null,
): Outcome {
  const d = dmTarget(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  const { first, count } = call;
  const to = typeOf(call.memType);
  if (to === null || !inGuest(d, first, count)) return rc(-errno.EINVAL);
  if (to === p2mType.ioreqServer) {
    if (!d.has('hap')) return rc(-errno.EOPNOTSUPP);
    if (d.r.ioreqServer === 0) return rc(-errno.EINVAL);
  }
  const start = state?.at ?? 0;
  for (let i = start; i < count; i++) {
    if (i !== start && i % SLICE === 0 && caller.preempt()) return goOn({ at: i });
    const result = setOne(h, d, first + i, to);
    if (result !== 0) return rc(result);
  }
  return rc(0);
}

function setOne(h: Host, d: Domain, g: number, to: number): number {
  const leaf = new Leaf();
  const m = getGfn(h, d, g, P2M_ALLOC, leaf);
  try {
    if (isPaging(leaf.type) || leaf.type === p2mType.ramShared) return -errno.EAGAIN;
    if (!mayBecome(leaf.type, to)) return -errno.EINVAL;
    const result = changeTypeOne(h, d, g, leaf.type, to);
    if (result !== 0 || m === INVALID_MFN) return result;
    // Deviations, where Xen would lose track: a page that may be written without a fault counts as dirty; the frame behind an
    // emulated page, which there is no way back from, gives up its M2P entry, or whatever is mapped there next leaves it stale.
    if (to === p2mType.ramRw) markDirty(h, d, g, 1);
    else if (to === p2mType.mmioDm && isRam(leaf.type)) h.frames.clearM2pBlock(m, 1);
    return 0;
  } finally {
    putGfn(h, d);
  }
}

/** The device model wrote to these pages behind the p2m's back. */
export function modifiedMemory(
  h: Host,
  caller: Caller,
  call: CallOf<'modified_memory'>,
  state: ContinuationState | null,
): Outcome {
  const d = dmTarget(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  const { first, count } = call;
  if (!inGuest(d, first, count)) return rc(-errno.EINVAL);
  const leaf = new Leaf();
  const start = state?.at ?? 0;
  for (let i = start; i < count && d.r.logDirty !== 0; i++) {
    if (i !== start && i % SLICE === 0 && caller.preempt()) return goOn({ at: i });
    const m = getPageFromGfn(h, d, first + i, P2M_ALLOC, leaf);
    if (m < 0) continue;
    markDirty(h, d, first + i, 1);
    putPage(h, m as Mfn);
  }
  return rc(0);
}

/** All dirty when the range is new; count 0 ends the watch. */
export function trackDirtyVramOp(h: Host, caller: Caller, call: CallOf<'track_dirty_vram'>): Outcome {
  const d = dmTarget(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  const { first, count } = call;
  if (!isCount(first) || !isCount(count) || count > MAX_VRAM) return rc(-errno.EINVAL);
  if (d.dying) return rc(-errno.ESRCH);
  if (d.r.vcpus === 0) return rc(-errno.EINVAL);
  const bitmap: number[] = [];
  const result = trackDirtyVram(h, d, first, count, bitmap);
  return result === 0 ? done({ rc: 0, bitmap }) : rc(result);
}
