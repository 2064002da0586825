// XENMEM_acquire_resource: pages that Xen keeps for a domain – of an ioreq server, of its grant table – shown to whoever runs it:
// foreign entries at gfns of the caller's, or their frames for a PV caller.
import type { Domain } from '../domain/domain.ts';
import { putPage } from '../domain/memory.ts';
import type { Mfn } from '../frames/addresses.ts';
import { getTableFrame } from '../grant/table.ts';
import type { Host } from '../host.ts';
import { getIoreqFrame, ioreqFrames } from '../p2m/ioreq-pages.ts';
import { setTypedEntry } from '../p2m/physmap.ts';
import { p2mAccess, p2mType } from '../p2m/types.ts';
import { counter } from '../shared-memory/counters.ts';
import { type CallOf, extentAt, extentCount } from './calls.ts';
import { extentsOk, isCount, isFrame, isPrivileged } from './checks.ts';
import { type Caller, type ContinuationState, done, goOn, type Outcome, rc } from './continuation.ts';
import { errno } from './errno.ts';

/** XENMEM_resource_* */
export const resourceType = { ioreqServer: 0, grantTable: 1 } as const;
/** Ids of XENMEM_resource_grant_table. */
export const grantResource = { shared: 0, status: 1 } as const;

const C_MAPPED = counter('foreign.mapped');
/** Frames between two preemption checks. */
const BATCH = 32;

/** How many frames a resource has at most; 0: no such resource. */
function sizeOf(h: Host, d: Domain, type: number, id: number): number {
  if (type === resourceType.ioreqServer) return ioreqFrames(d);
  if (type !== resourceType.grantTable) return 0;
  const t = h.grants.of(d);
  if (id === grantResource.shared) return t.maxFrames;
  return id === grantResource.status ? t.statusFramesFor(t.maxFrames) : 0;
}

function frameOf(h: Host, d: Domain, type: number, id: number, index: number): Mfn | number {
  return type === resourceType.ioreqServer
    ? getIoreqFrame(h, d, id, index)
    : getTableFrame(h, d, index, id === grantResource.status);
}

function showOne(h: Host, caller: Domain, m: Mfn, gfn: number): number {
  if (!caller.isTranslated) return 0;
  if (!isFrame(gfn)) return -errno.EINVAL;
  const result = setTypedEntry(h, caller, gfn, m, 0, p2mType.mapForeign, p2mAccess.rwx);
  if (result === 0) h.counters.add(C_MAPPED);
  return result;
}

/**
 * `gfns` empty: the size. Else frames `frame` and on, one per gfn. 0; -ESRCH; -EPERM (own domain, or no privilege); -EINVAL, -ENOENT,
 * -ENOMEM of the first; -EIO where others were shown before.
 */
export function acquireResource(
  h: Host,
  caller: Caller,
  call: CallOf<'acquire_resource'>,
  state: ContinuationState | null,
): Outcome {
  const d = isCount(call.domid) ? h.domain(call.domid) : null;
  if (!d) return rc(-errno.ESRCH);
  if (d === caller.domain || !isPrivileged(caller)) return rc(-errno.EPERM);
  const { type, id, frame, gfns } = call;
  if (!extentsOk(gfns)) return rc(-errno.EFAULT);
  if (!isCount(type) || !isCount(id) || !isCount(frame)) return rc(-errno.EINVAL);
  const size = sizeOf(h, d, type, id);
  if (size === 0) return rc(-errno.EOPNOTSUPP);
  const total = extentCount(gfns);
  if (total === 0) return done({ rc: 0, size });
  if (frame + total > size) return rc(-errno.EINVAL);
  const frames = [...(state?.values ?? [])];
  const start = frames.length;
  for (let i = start; i < total; i++) {
    if (i !== start && i % BATCH === 0 && caller.preempt()) return goOn({ at: i, values: frames });
    const m = frameOf(h, d, type, id, frame + i);
    if (m < 0) return rc(i === 0 ? m : -errno.EIO);
    const result = showOne(h, caller.domain, m as Mfn, extentAt(gfns, i, 0));
    putPage(h, m as Mfn);
    if (result !== 0) return rc(i === 0 ? result : -errno.EIO);
    frames.push(m);
  }
  return done({ rc: 0, size, ...(caller.domain.isTranslated ? {} : { frames }) });
}
