// XEN_DOMCTL_shadow_op: log-dirty mode and the paging pool in MiB (Xen's paging_domctl). Looking at the bitmap does not take the
// domctl lock (XSA-492); it may yield, with the domain paused, and then nobody else's shadow_op gets in between.
import type { Domain } from '../domain/domain.ts';
import type { Host } from '../host.ts';
import { type DirtyLook, disableLogDirty, enableLogDirty, lookAtDirty } from '../p2m/log-dirty.ts';
import { setPagingPool } from '../p2m/paging-pool.ts';
import { type CallOf, SHADOW_ENABLE_LOG_DIRTY, SHADOW_LOGDIRTY_FINAL, shadowOp } from './calls.ts';
import { isCount } from './checks.ts';
import { type Caller, type ContinuationState, done, goOn, type Outcome, rc } from './continuation.ts';
import { domctlTarget, underDomctlLock } from './domctl.ts';
import { errno } from './errno.ts';

const PAGES_PER_MB = 256;

type ShadowCall = CallOf<'shadow_op'>;

export function shadowOpCall(h: Host, caller: Caller, call: ShadowCall, state: ContinuationState | null): Outcome {
  const d = domctlTarget(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  const { sop, mode, pages, copy, mb } = call;
  if (!isCount(sop) || !isCount(mode) || !isCount(pages) || !isCount(mb) || typeof copy !== 'boolean') {
    return rc(-errno.EINVAL);
  }
  const looks = sop === shadowOp.clean || sop === shadowOp.peek;
  const body = (): Outcome => {
    const refused = refusal(caller, d, sop, looks && state !== null);
    if (refused !== 0) return rc(refused);
    return looks ? look(h, caller, d, call, state) : change(h, caller, d, call);
  };
  return looks ? body() : underDomctlLock(h, state, body);
}

/** What holds for every shadow_op. `resuming`: a later slice of a look that yielded. */
function refusal(caller: Caller, d: Domain, sop: number, resuming: boolean): number {
  if (d === caller.domain || d.dying || d.r.vcpus === 0) return -errno.EINVAL;
  const { pagingOpBy, pagingOp } = d.r;
  const mine = pagingOpBy === caller.domain.domid + 1 && pagingOp === sop;
  if (resuming ? !mine : pagingOpBy !== 0 && sop !== shadowOp.getAllocation) return -errno.EBUSY;
  // Domains without HAP need shadow paging, which this hypervisor is built without.
  return d.has('hap') ? 0 : -errno.EOPNOTSUPP;
}

function change(h: Host, caller: Caller, d: Domain, { sop, mode, mb }: ShadowCall): Outcome {
  switch (sop) {
    case shadowOp.enable:
      return rc((mode & SHADOW_ENABLE_LOG_DIRTY) !== 0 ? enableLogDirty(h, d) : -errno.EINVAL);
    case shadowOp.enableLogdirty:
      return rc(enableLogDirty(h, d));
    case shadowOp.off:
      return rc(disableLogDirty(h, d));
    case shadowOp.getAllocation:
      return done({ rc: 0, mb: Math.ceil(d.r.poolTotal / PAGES_PER_MB) });
    case shadowOp.setAllocation:
      for (;;) {
        const left = setPagingPool(h, d, mb * PAGES_PER_MB);
        if (left < 0) return rc(left);
        if (left === 0) return done({ rc: 0, mb: Math.ceil(d.r.poolTotal / PAGES_PER_MB) });
        if (caller.preempt()) return goOn(null);
      }
    default:
      return rc(-errno.EINVAL);
  }
}

/**
 * clean and peek, of at most the gfns that were ever mapped (Xen: of what its bitmap can reach). Pages that an emulator keeps mapped for writing, which `final` takes in, do not exist here: the model's Xen maps
 * none.
 */
function look(h: Host, caller: Caller, d: Domain, call: ShadowCall, state: ContinuationState | null): Outcome {
  if ((call.mode & ~SHADOW_LOGDIRTY_FINAL) !== 0) return rc(-errno.EINVAL);
  const progress: DirtyLook = {
    clean: call.sop === shadowOp.clean,
    copy: call.copy,
    pages: Math.min(call.pages, d.r.maxMappedPfn + 1),
    by: caller.domain.domid,
    op: call.sop,
    at: state?.at ?? 0,
    dirtyCount: state?.values?.[0] ?? 0,
    words: [...(state?.values?.slice(1) ?? [])],
  };
  const result = lookAtDirty(h, d, progress, () => caller.preempt());
  if (result === -errno.ERESTART) {
    return goOn({ at: progress.at, values: [progress.dirtyCount, ...progress.words] });
  }
  if (result !== 0) return rc(result);
  const { pages, dirtyCount, words } = progress;
  return done({ rc: 0, pages, dirtyCount, ...(call.copy ? { bitmap: words } : {}) });
}
