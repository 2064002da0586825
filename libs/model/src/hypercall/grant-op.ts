// grant_table_op: maps, copies and takes back memory that other domains grant, and looks after the caller's own table. The call
// answers 0, each operation its own status; a batch yields between operations (unmap: between batches of 32).
import type { Domain } from '../domain/domain.ts';
import { MAX_GFN } from '../frames/addresses.ts';
import { type CopyOp, type CopySide, grantCopy } from '../grant/copy.ts';
import { type MapOp, mapGrantRef } from '../grant/map.ts';
import { enterGrantOp, leaveGrantOp } from '../grant/release.ts';
import { gntst } from '../grant/status.ts';
import { growTable, setVersion } from '../grant/table.ts';
import { UNMAP_BATCH, type UnmapOp, unmapBatch } from '../grant/unmap.ts';
import type { Host } from '../host.ts';
import { getGfn, P2M_QUERY, putGfn } from '../p2m/get-entry.ts';
import { Leaf } from '../p2m/peek-entry.ts';
import { isRam } from '../p2m/types.ts';
import type { CallOf } from './calls.ts';
import { domainByAnyId, isCount, isPrivileged } from './checks.ts';
import { blocked, type Caller, type ContinuationState, done, goOn, type Outcome, rc } from './continuation.ts';
import { errno } from './errno.ts';

/** Operations in one call. */
export const MAX_GRANT_OPS = 4096;
/** Figures of a map operation that a continuation keeps. */
const MAP_FIGURES = 3;

const isU32 = (n: unknown): n is number => isCount(n) && n <= 0xffff_ffff;
const isAddress = (n: unknown): n is number => isCount(n) && n <= (MAX_GFN + 1) * 4096 - 1;

/** The list of operations: -EFAULT if it cannot be read, -EINVAL if it is too long. */
function listError(ops: unknown): number {
  if (!Array.isArray(ops) || ops.some((op) => typeof op !== 'object' || op === null)) return -errno.EFAULT;
  return ops.length > MAX_GRANT_OPS ? -errno.EINVAL : 0;
}

const held = (d: Domain, state: ContinuationState | null): Outcome => blocked({ on: 'unpause', domid: d.domid }, state);

export function gnttabMap(
  h: Host,
  caller: Caller,
  call: CallOf<'gnttab_map_grant_ref'>,
  state: ContinuationState | null,
): Outcome {
  const wrong = listError(call.ops);
  if (wrong !== 0) return rc(wrong);
  const figures = [...(state?.values ?? [])];
  if (!enterGrantOp(h, caller.domain)) return held(caller.domain, state);
  try {
    const start = state?.at ?? 0;
    for (let i = start; i < call.ops.length; i++) {
      if (i !== start && caller.preempt()) return goOn({ at: i, values: figures });
      const op = call.ops[i] as MapOp; // in range
      const { status, handle, devBusAddr } = mapOne(h, caller.domain, op);
      figures.push(status, handle, devBusAddr);
    }
  } finally {
    leaveGrantOp(h, caller.domain);
  }
  const results = call.ops.map((_, i) => ({
    status: figures[i * MAP_FIGURES] as number,
    handle: figures[i * MAP_FIGURES + 1] as number,
    devBusAddr: figures[i * MAP_FIGURES + 2] as number,
  }));
  return done({ rc: 0, results });
}

function mapOne(h: Host, d: Domain, op: MapOp) {
  if (isAddress(op.hostAddr) && isU32(op.flags) && isU32(op.ref) && isCount(op.domid)) return mapGrantRef(h, d, op);
  return { status: gntst.generalError, handle: 0, devBusAddr: 0 };
}

export function gnttabUnmap(
  h: Host,
  caller: Caller,
  call: CallOf<'gnttab_unmap_grant_ref'>,
  state: ContinuationState | null,
): Outcome {
  const wrong = listError(call.ops);
  if (wrong !== 0) return rc(wrong);
  const statuses = [...(state?.values ?? [])];
  if (!enterGrantOp(h, caller.domain)) return held(caller.domain, state);
  try {
    const start = state?.at ?? 0;
    for (let at = start; at < call.ops.length; at += UNMAP_BATCH) {
      if (at !== start && caller.preempt()) return goOn({ at, values: statuses });
      statuses.push(...unmapBatch(h, caller.domain, call.ops.slice(at, at + UNMAP_BATCH).map(readable)));
    }
  } finally {
    leaveGrantOp(h, caller.domain);
  }
  return done({ rc: 0, statuses });
}

/** What is no address names no part, what is no handle is nobody's. */
function readable({ hostAddr, devBusAddr, handle }: UnmapOp): UnmapOp {
  return {
    hostAddr: isAddress(hostAddr) ? hostAddr : 0,
    devBusAddr: isAddress(devBusAddr) ? devBusAddr : 0,
    handle: isU32(handle) ? handle : 0,
  };
}

export function gnttabCopy(
  h: Host,
  caller: Caller,
  call: CallOf<'gnttab_copy'>,
  state: ContinuationState | null,
): Outcome {
  const wrong = listError(call.ops);
  if (wrong !== 0) return rc(wrong);
  const statuses = [...(state?.values ?? [])];
  const start = state?.at ?? 0;
  for (let i = start; i < call.ops.length; i++) {
    if (i !== start && caller.preempt()) return goOn({ at: i, values: statuses });
    const op = call.ops[i] as CallOf<'gnttab_copy'>['ops'][number]; // in range
    const parts: CopyOp = {
      source: { domid: op.sourceDomid, frame: op.sourceFrame, offset: op.sourceOffset },
      dest: { domid: op.destDomid, frame: op.destFrame, offset: op.destOffset },
      length: op.length,
      flags: op.flags,
    };
    statuses.push(copyReadable(parts) ? grantCopy(h, caller.domain, parts) : gntst.badCopyArg);
  }
  return done({ rc: 0, statuses });
}

const sideReadable = ({ domid, frame, offset }: CopySide): boolean =>
  isCount(domid) && isCount(frame) && frame <= MAX_GFN && isCount(offset);
const copyReadable = (op: CopyOp): boolean =>
  sideReadable(op.source) && sideReadable(op.dest) && isCount(op.length) && isU32(op.flags);

/**
 * Always refused: a page of an HVM guest cannot be stolen from it (general_error), and what is no page is bad. Deviation: Xen lets PV
 * guests transfer pages unless `gnttab=` forbids it; here they are refused like others.
 */
export function gnttabTransfer(h: Host, caller: Caller, call: CallOf<'gnttab_transfer'>): Outcome {
  const wrong = listError(call.ops);
  if (wrong !== 0) return rc(wrong);
  const leaf = new Leaf();
  const statuses = call.ops.map(({ gfn }) => {
    if (!isCount(gfn) || gfn > MAX_GFN) return gntst.badPage;
    getGfn(h, caller.domain, gfn, P2M_QUERY, leaf);
    putGfn(h, caller.domain);
    return isRam(leaf.type) && h.frames.valid(leaf.mfn) ? gntst.generalError : gntst.badPage;
  });
  return done({ rc: 0, statuses });
}

/** Whose table a query or a set-up is about, or a status. */
function tableOwner(h: Host, caller: Caller, id: unknown): Domain | number {
  const d = domainByAnyId(h, caller, id);
  if (!d) return gntst.badDomain;
  return d === caller.domain || isPrivileged(caller) ? d : gntst.permissionDenied;
}

/** gfns of the first frames of a list (PV: the frames themselves), where the guest has them; all ones where it has not. */
function gfnsOf(h: Host, d: Domain, list: ArrayLike<number>, count: number): number[] {
  return Array.from({ length: count }, (_, i) => {
    const m = (list[i] as number) - 1;
    if (!d.isTranslated) return m;
    const g = h.frames.gfnOf(m as Parameters<typeof h.frames.gfnOf>[0]);
    return g < 0 ? MAX_GFN : g;
  });
}

export function gnttabSetupTable(h: Host, caller: Caller, call: CallOf<'gnttab_setup_table'>): Outcome {
  const d = tableOwner(h, caller, call.domid);
  if (typeof d === 'number') return done({ rc: 0, status: d });
  const t = h.grants.of(d);
  if (!isCount(call.nrFrames) || call.nrFrames > t.maxFrames) return done({ rc: 0, status: gntst.generalError });
  d.locks.grantTable.writeLock();
  try {
    if ((call.nrFrames > t.frames || t.frames === 0) && growTable(h, d, call.nrFrames) !== 0) {
      return done({ rc: 0, status: gntst.generalError });
    }
    return done({ rc: 0, status: gntst.okay, frames: gfnsOf(h, d, t.frameList, call.nrFrames) });
  } finally {
    d.locks.grantTable.writeUnlock();
  }
}

export function gnttabGetStatusFrames(h: Host, caller: Caller, call: CallOf<'gnttab_get_status_frames'>): Outcome {
  const d = tableOwner(h, caller, call.domid);
  if (typeof d === 'number') return done({ rc: 0, status: d });
  const t = h.grants.of(d);
  d.locks.grantTable.readLock();
  try {
    const known = t.version === 2 && isCount(call.nrFrames) && call.nrFrames <= t.statusFrames;
    if (!known) return done({ rc: 0, status: gntst.generalError });
    return done({ rc: 0, status: gntst.okay, frames: gfnsOf(h, d, t.statusList, call.nrFrames) });
  } finally {
    d.locks.grantTable.readUnlock();
  }
}

export function gnttabQuerySize(h: Host, caller: Caller, call: CallOf<'gnttab_query_size'>): Outcome {
  const d = tableOwner(h, caller, call.domid);
  if (typeof d === 'number') return done({ rc: 0, status: d });
  const t = h.grants.of(d);
  return done({ rc: 0, status: gntst.okay, nrFrames: t.frames, maxFrames: t.maxFrames });
}

/** Answers the version that is in force afterwards, whatever came of it. */
export function gnttabSetVersion(h: Host, caller: Caller, call: CallOf<'gnttab_set_version'>): Outcome {
  const result = isCount(call.version) ? setVersion(h, caller.domain, call.version) : -errno.EINVAL;
  return done({ rc: result, version: h.grants.of(caller.domain).version });
}

export function gnttabGetVersion(h: Host, caller: Caller, call: CallOf<'gnttab_get_version'>): Outcome {
  const d = domainByAnyId(h, caller, call.domid);
  if (!d) return rc(-errno.ESRCH);
  if (d !== caller.domain && !isPrivileged(caller)) return rc(-errno.EPERM);
  return done({ rc: 0, version: h.grants.of(d).version });
}
