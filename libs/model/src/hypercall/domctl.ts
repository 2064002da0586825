// domctl: what only the control domain may do to a domain. Calls that Xen serialises take the global domctl lock by
// trylock; when it is taken the caller simply comes again. Some no longer take it (XSA-492), so memory_mapping can race
// assign_device.
import { createDomain, finishCreation } from '../domain/create.ts';
import { destroyDomain } from '../domain/destroy.ts';
import type { Domain } from '../domain/domain.ts';
import { denyIomem, mayAccessIomem, permitIomem } from '../domain/iomem.ts';
import { pauseDomain, unpauseDomain } from '../domain/pause.ts';
import { DOMID_FIRST_RESERVED, MAX_GFN } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { mapMmioRegions, unmapMmioRegions } from '../p2m/mmio.ts';
import { setPagingPool } from '../p2m/paging-pool.ts';
import type { CallOf } from './calls.ts';
import { isCount, isFrame, isPrivileged } from './checks.ts';
import { type Caller, type ContinuationState, done, goOn, type Outcome, rc } from './continuation.ts';
import { errno } from './errno.ts';

const PAGE_BYTES = 4096;

/** The domain a domctl names: -ESRCH when there is none, -EPERM for any caller but the control domain. */
export function domctlTarget(h: Host, caller: Caller, id: unknown): Domain | number {
  if (!isPrivileged(caller)) return -errno.EPERM;
  const d = isCount(id) ? h.domain(id) : null;
  return d ?? -errno.ESRCH;
}

/** Runs `body` under the domctl lock; contention is a continuation of what the call had reached. */
export function underDomctlLock(h: Host, state: ContinuationState | null, body: () => Outcome): Outcome {
  if (!h.domctlLock.tryLock()) return goOn(state);
  try {
    return body();
  } finally {
    h.domctlLock.unlock();
  }
}

export function createdomain(h: Host, caller: Caller, call: CallOf<'createdomain'>): Outcome {
  if (!isPrivileged(caller)) return rc(-errno.EPERM);
  const flags = [call.hvm, call.hap, call.iommu, call.noSharept, call.deviceModel];
  if (typeof call.name !== 'string' || !flags.every((flag) => typeof flag === 'boolean')) return rc(-errno.EFAULT);
  if (!isCount(call.domid) || call.domid >= DOMID_FIRST_RESERVED || !isCount(call.vcpus)) return rc(-errno.EINVAL);
  return underDomctlLock(h, null, () => {
    const d = createDomain(h, call);
    return typeof d === 'number' ? rc(d) : done({ rc: 0, domid: d.domid, incarnation: d.r.incarnation });
  });
}

export function destroydomain(
  h: Host,
  caller: Caller,
  call: CallOf<'destroydomain'>,
  state: ContinuationState | null,
): Outcome {
  const d = domctlTarget(h, caller, call.domid);
  // A resumed call may find the number given away: `at` is the incarnation it set out to destroy.
  if (state && (typeof d === 'number' || d.r.incarnation !== state.at)) return rc(0);
  if (typeof d === 'number') return rc(d);
  if (d === caller.domain) return rc(-errno.EINVAL);
  const kept = { at: d.r.incarnation };
  return underDomctlLock(h, kept, () => {
    const result = destroyDomain(h, d, () => caller.preempt());
    return result === -errno.ERESTART ? goOn(kept) : rc(result);
  });
}

export function pausedomain(h: Host, caller: Caller, call: CallOf<'pausedomain'>): Outcome {
  const d = domctlTarget(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  if (d === caller.domain) return rc(-errno.EINVAL);
  return underDomctlLock(h, null, () => rc(pauseDomain(h, d)));
}

export function unpausedomain(h: Host, caller: Caller, call: CallOf<'unpausedomain'>): Outcome {
  const d = domctlTarget(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  return underDomctlLock(h, null, () => {
    if (d.dying) return rc(-errno.ESRCH);
    finishCreation(h, d);
    return rc(unpauseDomain(d));
  });
}

/** Never fails, and frees nothing when it goes below tot_pages: only new allocations fail. */
export function maxMem(h: Host, caller: Caller, call: CallOf<'max_mem'>): Outcome {
  const d = domctlTarget(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  if (!isCount(call.maxKb)) return rc(-errno.EINVAL);
  return underDomctlLock(h, null, () => {
    d.locks.pageAlloc.lock();
    d.r.maxPages = Math.floor(call.maxKb / 4);
    d.locks.pageAlloc.unlock();
    return rc(0);
  });
}

export function setPagingMempool(h: Host, caller: Caller, call: CallOf<'set_paging_mempool_size'>): Outcome {
  const d = domctlTarget(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  if (!isCount(call.bytes) || call.bytes % PAGE_BYTES !== 0) return rc(-errno.EINVAL);
  if (!d.isTranslated) return rc(-errno.EOPNOTSUPP);
  return underDomctlLock(h, null, () => {
    if (d.dying) return rc(-errno.EINVAL);
    for (;;) {
      const left = setPagingPool(h, d, call.bytes / PAGE_BYTES);
      if (left <= 0) return rc(left);
      if (caller.preempt()) return goOn(null);
    }
  });
}

export function getPagingMempool(h: Host, caller: Caller, call: CallOf<'get_paging_mempool_size'>): Outcome {
  const d = domctlTarget(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  if (!d.isTranslated) return rc(-errno.EOPNOTSUPP);
  return done({ rc: 0, bytes: d.r.poolTotal * PAGE_BYTES });
}

/** Frames [first, first + nr) as a range inside the address width, or null. */
const lastFrame = (first: unknown, nr: unknown): number | null =>
  isFrame(first) && isCount(nr) && nr > 0 && first + nr - 1 <= MAX_GFN ? first + nr - 1 : null;

export function iomemPermission(h: Host, caller: Caller, call: CallOf<'iomem_permission'>): Outcome {
  const d = domctlTarget(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  const last = lastFrame(call.firstMfn, call.nrMfns);
  if (last === null || typeof call.allow !== 'boolean') return rc(-errno.EINVAL);
  if (d.dying) return rc(-errno.ESRCH);
  // Xen no longer takes the domctl lock here; our rangeset lives in the record, so this short change does (it only waits).
  h.domctlLock.lock();
  const result = call.allow ? permitIomem(d, call.firstMfn, last) : denyIomem(d, call.firstMfn, last);
  h.domctlLock.unlock();
  return rc(result);
}

/**
 * 0 = the whole range; >0 = frames done, whether a limit or an error stopped it (the caller advances and loops); <0 only
 * when the very first frame failed.
 */
export function memoryMapping(h: Host, caller: Caller, call: CallOf<'memory_mapping'>): Outcome {
  const d = domctlTarget(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  const { firstGfn, firstMfn, nrMfns, add } = call;
  const last = lastFrame(firstMfn, nrMfns);
  if (last === null || lastFrame(firstGfn, nrMfns) === null || typeof add !== 'boolean') return rc(-errno.EINVAL);
  if (!mayAccessIomem(caller.domain, firstMfn, last) || !mayAccessIomem(d, firstMfn, last)) return rc(-errno.EPERM);
  if (!d.isTranslated) return rc(0);
  if (d.dying) return rc(-errno.ESRCH);
  return rc(
    add ? mapMmioRegions(h, d, firstGfn, nrMfns, firstMfn) : unmapMmioRegions(h, d, firstGfn, nrMfns, firstMfn),
  );
}
