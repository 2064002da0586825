// A lookup that allocates has met a PoD leaf: give it a frame from the cache. Only CPUs, hypercalls and foreign mappers come
// here. A device does not, which is why its access to an untouched gfn faults.
import { domainCrash } from '../domain/crash.ts';
import type { Domain } from '../domain/domain.ts';
import { type Gfn, INVALID_MFN, type Mfn, PAGE_ORDER_1G, PAGE_ORDER_2M, SUPERPAGE_PAGES } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { markDirty } from '../p2m/dirty-bitmap.ts';
import { p2mSetEntry } from '../p2m/set-entry.ts';
import { p2mAccess, p2mType } from '../p2m/types.ts';
import { counter } from '../shared-memory/counters.ts';
import { cacheAdd, cacheGet } from './cache.ts';
import { eagerReclaim, recordPopulated } from './mrp.ts';
import { inDebt } from './pod-state.ts';
import { emergencySweep } from './sweep.ts';

const C_4K = counter('pod.populate4k');
const C_2M = counter('pod.populate2m');
const C_SPLIT = counter('pod.split');
const C_OUT = counter('pod.outOfMemory');

/**
 * As Xen's p2m_pod_demand_populate, for a PoD leaf of `order` (0, 9 or 18) that covers `gfn`. True: the leaf has changed,
 * walk again. False: it stays a hole for this access (dying, no table memory), or the domain was crashed for want of
 * memory. p2m write lock held.
 */
export function podDemandPopulate(h: Host, d: Domain, gfn: Gfn | number, order: number): boolean {
  d.locks.pod.lock();
  let found: Found;
  try {
    found = serve(h, d, gfn, order);
  } finally {
    d.locks.pod.unlock();
  }
  if (typeof found === 'boolean') return found;
  // The pod lock is gone, the p2m lock is not. No table memory: report failure, or the walk would loop for ever (XSA-246).
  h.counters.add(C_SPLIT);
  return split(h, d, gfn, order, found.splitTo) === 0;
}

/** Whether the leaf changed, or that it must first be cut to a smaller order. */
type Found = boolean | { readonly splitTo: 0 | 9 };

/** Pod lock held. */
function serve(h: Host, d: Domain, gfn: Gfn | number, order: number): Found {
  if (d.dying) return false;
  // A 1G entry is cut to 2M first; the other 511 stay PoD.
  if (order === PAGE_ORDER_1G) return { splitTo: PAGE_ORDER_2M };
  if (inDebt(d)) eagerReclaim(h, d);
  if (d.r.podCount === 0) emergencySweep(h, d, h.preemptPending);
  if (d.r.podCount === 0) return outOfMemory(h, d);
  d.r.podMaxGuest = Math.max(d.r.podMaxGuest, gfn);
  const size = order === PAGE_ORDER_2M ? PAGE_ORDER_2M : 0;
  const m = cacheGet(h, d, size);
  return m < 0 ? { splitTo: 0 } : install(h, d, gfn, m as Mfn, size);
}

/**
 * The leaf of order `from` around `gfn` becomes smaller PoD leaves: rewriting one of them as what it is makes the split. Of a
 * 1G leaf that is the 2M around `gfn`, of a 2M leaf its first 4K.
 */
function split(h: Host, d: Domain, gfn: number, from: number, to: 0 | 9): number {
  const unit = from === PAGE_ORDER_1G ? 2 ** to : SUPERPAGE_PAGES;
  const aligned = Math.floor(gfn / unit) * unit;
  return p2mSetEntry(h, d, aligned as Gfn, INVALID_MFN, to, p2mType.populateOnDemand, p2mAccess.rwx);
}

function install(h: Host, d: Domain, gfn: number, m: Mfn, order: 0 | 9): boolean {
  const pages = order === 0 ? 1 : SUPERPAGE_PAGES;
  const aligned = Math.floor(gfn / pages) * pages;
  if (p2mSetEntry(h, d, aligned as Gfn, m, order, p2mType.ramRw, p2mAccess.rwx) !== 0) {
    const rc = cacheAdd(h, d, m, order);
    h.assert(rc === 0, 'an unused page fits the PoD cache again');
    return false;
  }
  h.frames.setM2pBlock(m, aligned, pages);
  markDirty(h, d, aligned, pages);
  d.r.podEntryCount -= pages;
  h.assert(d.r.podEntryCount >= 0, 'PoD entry_count >= 0');
  recordPopulated(d, aligned, order);
  h.counters.add(order === 0 ? C_4K : C_2M);
  return true;
}

function outOfMemory(h: Host, d: Domain): false {
  h.counters.add(C_OUT);
  const running = h.current?.domid ?? d.domid;
  domainCrash(
    h,
    d,
    `p2m_pod_demand_populate: Dom${d.domid} out of PoD memory! (tot=${d.r.totPages} ents=${d.r.podEntryCount} dom${running})`,
  );
  return false;
}
