// Global log-dirty mode of a translated domain (as Xen's paging_log_dirty_* with HAP): every write is seen once as a fault, and
// recorded. Devices' writes are not, so the mode and devices exclude each other: here devices refuse the mode, and
// p2mLogDirtyGlobal (recalc.ts) is what an assignment looks at.
//
//   enable   all ram_rw becomes ram_logdirty, lazily; a write makes its page ram_rw again and sets its bit
//   peek     copies the bitmap        clean   copies and clears it, and write-protects again
//   disable  all ram_logdirty becomes ram_rw; the bitmap goes
import type { Domain } from '../domain/domain.ts';
import { pauseDomain, unpauseDomain } from '../domain/pause.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { hasWindows } from '../lending/window.ts';
import { counter } from '../shared-memory/counters.ts';
import { DIRTY_SLICE, freeDirtyBitmap, markDirty, readDirty } from './dirty-bitmap.ts';
import { changeEntryTypeGlobal, changeTypeOne } from './type-change.ts';
import { p2mType } from './types.ts';

const C_FAULT = counter('p2m.dirtyFault');

/** Runs `body` with no vCPU of `d` in guest mode. Its result, or -EOVERFLOW. */
function whilePaused(h: Host, d: Domain, body: () => number): number {
  const rc = pauseDomain(h, d);
  if (rc !== 0) return rc;
  const result = body();
  unpauseDomain(d);
  return result;
}

/** 0; -EINVAL: it has devices or borrowed memory, or logs already; -EBUSY: pages of an ioreq server are left. */
export function enableLogDirty(h: Host, d: Domain): number {
  if (d.r.deviceCount > 0 || d.r.logDirty !== 0 || hasWindows(d)) return -errno.EINVAL;
  return whilePaused(h, d, () => {
    if (d.r.ioreqEntryCount > 0) return -errno.EBUSY;
    d.locks.paging.lock();
    d.r.logDirty = 1;
    d.locks.paging.unlock();
    changeEntryTypeGlobal(h, d, p2mType.ramRw, p2mType.ramLogdirty);
    return 0;
  });
}

/** 0, whether the domain logged or not. */
export function disableLogDirty(h: Host, d: Domain): number {
  return whilePaused(h, d, () => {
    if (d.r.logDirty !== 0) {
      d.locks.paging.lock();
      d.r.logDirty = 0;
      d.locks.paging.unlock();
      changeEntryTypeGlobal(h, d, p2mType.ramLogdirty, p2mType.ramRw);
    }
    freeDirtyBitmap(h, d);
    return 0;
  });
}

/** Which look at the bitmap, and how far it came: it yields between slices with the domain paused, and then is resumed. */
export interface DirtyLook {
  readonly clean: boolean;
  /** The caller wants the bitmap, not only the figures. */
  readonly copy: boolean;
  readonly pages: number;
  /** Caller's domid and its number of the operation: nobody else's may come between two slices. */
  readonly by: number;
  readonly op: number;
  at: number;
  readonly words: number[];
  /** Pages that were dirty when the look began. */
  dirtyCount: number;
}

/** paging_log_dirty_op. 0; -ERESTART: call again; -EBUSY: another one is unfinished; -ENOMEM: writes could not be recorded. */
export function lookAtDirty(h: Host, d: Domain, look: DirtyLook, preempt: () => boolean): number {
  if (look.at === 0) {
    const paused = pauseDomain(h, d);
    if (paused !== 0) return paused;
  }
  const rc = readSlices(h, d, look, preempt);
  if (rc === -errno.ERESTART) return rc;
  // The domain is paused: nobody writes between the copy and the protection.
  if (rc === 0 && look.clean) changeEntryTypeGlobal(h, d, p2mType.ramRw, p2mType.ramLogdirty);
  unpauseDomain(d);
  return rc;
}

function readSlices(h: Host, d: Domain, look: DirtyLook, preempt: () => boolean): number {
  d.locks.paging.lock();
  try {
    if (look.at === 0) {
      if (d.r.pagingOpBy !== 0) return -errno.EBUSY;
      look.dirtyCount = d.r.dirtyCount;
      if (look.clean) d.r.dirtyCount = 0;
    }
    if (d.r.dirtyFailedAllocs > 0) {
      h.platform.printk(`${d.r.dirtyFailedAllocs} failed page allocs while logging dirty pages of d${d.domid}`);
      return -errno.ENOMEM;
    }
    while (look.at < look.pages) {
      const end = Math.min(look.at + DIRTY_SLICE, look.pages);
      readDirty(h, d, look.at, end, look.clean, look.copy ? look.words : null);
      look.at = end;
      if (end < look.pages && preempt()) {
        d.r.pagingOpBy = look.by + 1;
        d.r.pagingOp = look.op;
        return -errno.ERESTART;
      }
    }
    d.r.pagingOpBy = 0;
    return 0;
  } finally {
    d.locks.paging.unlock();
  }
}

/**
 * A vCPU wrote to a log-dirty page: the 4K page around it becomes writable, its neighbours in a superpage do not. 0; -EBUSY:
 * another vCPU was first; -ENOMEM: no table memory for the split. p2m lock held.
 */
export function dirtyFault(h: Host, d: Domain, g: number): number {
  h.counters.add(C_FAULT);
  markDirty(h, d, g, 1);
  return changeTypeOne(h, d, g, p2mType.ramLogdirty, p2mType.ramRw);
}
