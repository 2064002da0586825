// Changing the type of many entries, or of one, between the changeable types (p2m_change_entry_type_global, p2m_change_type_range,
// p2m_change_type_one, p2m_finish_type_change). The bulk changes are lazy: they record the state that types are computed from
// (recalc.ts) and mark entries (misconfig.ts). All take the p2m lock.
import { domainCrash } from '../domain/crash.ts';
import type { Domain } from '../domain/domain.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { addRange, removeRange } from '../shared-memory/range-set.ts';
import { invalidateAll, invalidateRange, resolveMisconfig } from './misconfig.ts';
import { p2mLock, p2mUnlock, syncDomain } from './p2m.ts';
import { Leaf, peekEntry } from './peek-entry.ts';
import { p2mSetEntry } from './set-entry.ts';
import { isChangeable, p2mAccess, p2mType } from './types.ts';

/** Every entry of type `from` is, when next touched, of type `to`. */
export function changeEntryTypeGlobal(h: Host, d: Domain, from: number, to: number): void {
  h.assert(from !== to && isChangeable(from) && isChangeable(to), 'a bulk change is between two changeable types');
  p2mLock(h, d);
  markAll(h, d);
  // Deviation: Xen says 0 for any other target, so that giving up ioreq_server pages would end log-dirty unseen.
  if (to === p2mType.ramLogdirty) d.r.globalLogdirty = 1;
  else if (from === p2mType.ramLogdirty) d.r.globalLogdirty = 0;
  p2mUnlock(h, d);
}

function markAll(h: Host, d: Domain): void {
  if (d.r.p2mRoot !== 0 && invalidateAll(h, d)) syncDomain(h, d);
}

/**
 * The same for [start, end) alone, which becomes log-dirty by itself or stops being so. An error (no table memory to split a
 * superpage at the ends, no room for the range) crashes the domain.
 */
export function changeTypeRange(h: Host, d: Domain, start: number, end: number, from: number, to: number): void {
  h.assert(from !== to && isChangeable(from) && isChangeable(to), 'a bulk change is between two changeable types');
  p2mLock(h, d);
  try {
    const limit = d.r.maxMappedPfn;
    const clipped = Math.min(end, limit + 1);
    if (end > limit + 1) h.platform.printk(`Dom${d.domid} logdirty rangeset clipped to max_mapped_pfn`);
    if (start >= clipped) return;
    const rc = markRange(h, d, start, clipped - 1);
    if (rc < 0) {
      const gfns = `[${start.toString(16)},${(clipped - 1).toString(16)}]`;
      domainCrash(h, d, `Error ${rc} changing Dom${d.domid} GFNs ${gfns} from ${from} to ${to}`);
    }
    const kept = keepRange(d, start, clipped - 1, from, to);
    if (kept < 0) domainCrash(h, d, `Error ${kept} manipulating Dom${d.domid}'s log-dirty ranges`);
  } finally {
    p2mUnlock(h, d);
  }
}

function markRange(h: Host, d: Domain, first: number, last: number): number {
  if (first === 0 && last === d.r.maxMappedPfn) {
    markAll(h, d);
    return 0;
  }
  const rc = invalidateRange(h, d, first, last);
  // After an error part of the range may be marked.
  if (rc !== 0) syncDomain(h, d);
  return rc;
}

function keepRange(d: Domain, first: number, last: number, from: number, to: number): number {
  const { logdirtyRanges, logdirtyRangeCount } = d.r;
  let count = logdirtyRangeCount;
  if (to === p2mType.ramLogdirty && from === p2mType.ramRw) count = addRange(logdirtyRanges, count, first, last);
  else if (to === p2mType.ramRw && from === p2mType.ramLogdirty)
    count = removeRange(logdirtyRanges, count, first, last);
  if (count < 0) return -errno.ENOMEM;
  d.r.logdirtyRangeCount = count;
  return 0;
}

/** One 4K entry, now. 0; -EBUSY: it is not of type `from`; -ENOMEM: a superpage would have to be split. */
export function changeTypeOne(h: Host, d: Domain, g: number, from: number, to: number): number {
  const leaf = new Leaf();
  p2mLock(h, d);
  try {
    const m = peekEntry(h, d, g, leaf);
    return leaf.type === from ? p2mSetEntry(h, d, g, m, 0, to, p2mAccess.rwx) : -errno.EBUSY;
  } finally {
    p2mUnlock(h, d);
  }
}

/** Settles what is pending in [first, first + count), not further than anything is mapped. 0 or -ENOMEM. */
export function finishTypeChange(h: Host, d: Domain, first: number, count: number): number {
  p2mLock(h, d);
  try {
    const end = Math.min(first + count, d.r.maxMappedPfn + 1);
    for (let g = first; g < end; g++) {
      const rc = resolveMisconfig(h, d, g);
      if (rc < 0) return rc;
    }
    return 0;
  } finally {
    p2mUnlock(h, d);
  }
}
