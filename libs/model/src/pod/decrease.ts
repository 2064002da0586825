// The PoD half of XENMEM_decrease_reservation: PoD entries vanish without a frame to free, and while the domain is in debt
// the RAM it gives up goes to its PoD cache instead of the host, so tot_pages does not drop.
import { domainCrash } from '../domain/crash.ts';
import type { Domain } from '../domain/domain.ts';
import {
  alignmentOrder,
  type Gfn,
  INVALID_MFN,
  type Mfn,
  type Order,
  PAGE_ORDER_2M,
  SUPERPAGE_PAGES,
} from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';
import { p2mLock, p2mTlbFlushSync, p2mUnlock } from '../p2m/p2m.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { p2mSetEntry } from '../p2m/set-entry.ts';
import { isPod, isRam, p2mAccess, p2mType } from '../p2m/types.ts';
import { counter } from '../shared-memory/counters.ts';
import { cacheAdd } from './cache.ts';
import { podSetCacheTarget } from './cache-target.ts';
import { inDebt } from './pod-state.ts';
import { zeroCheckSuperpage } from './zero-check.ts';

const C_STEAL = counter('pod.steal');

/**
 * As Xen's p2m_pod_decrease_reservation: how many of the 2^order 4K gfns were handled here. The caller removes the rest with
 * guest_remove_page and finds each handled gfn empty (-ENOENT). A misaligned range is cut into aligned chunks (XSA-388).
 */
export function podDecreaseReservation(h: Host, d: Domain, gfn: Gfn | number, order: Order): number {
  const chunk = alignmentOrder(gfn, order);
  const end = gfn + 2 ** order;
  let handled = 0;
  for (let at: number = gfn; at < end && !d.crashed; at += 2 ** chunk) handled += decreaseChunk(h, d, at as Gfn, chunk);
  return handled;
}

interface Found {
  pod: number;
  ram: number;
}

function decreaseChunk(h: Host, d: Domain, gfn: Gfn, order: Order): number {
  p2mLock(h, d);
  d.locks.pod.lock();
  try {
    if (d.r.podEntryCount === 0 || d.dying) return 0;
    const steal = inDebt(d);
    const found = classify(h, d, gfn, order);
    if (found.pod === 0 && !steal) return 0;
    const pages = 2 ** order;
    let handled: number;
    if (found.pod === pages) handled = dropEntries(h, d, gfn, order);
    else {
      if (steal && order < PAGE_ORDER_2M && found.ram === pages) reclaimAround(h, d, gfn, found, pages);
      handled = dropLeaves(h, d, gfn, order, found);
    }
    // Liabilities fell below assets: the surplus goes home.
    if (!d.crashed && d.r.podEntryCount < d.r.podCount) podSetCacheTarget(h, d, d.r.podEntryCount, null);
    return handled;
  } finally {
    d.locks.pod.unlock();
    p2mUnlock(h, d);
  }
}

/** Xen's own pages shared with the guest look like RAM in the p2m but are nobody's to steal (XSA-507). */
const stealable = (h: Host, type: number, m: Mfn): boolean => isRam(type) && !h.frames.has(m, frameFlag.special);

function classify(h: Host, d: Domain, gfn: Gfn, order: Order): Found {
  const leaf = new Leaf();
  const found = { pod: 0, ram: 0 };
  for (let i = 0; i < 2 ** order; ) {
    const m = peekEntry(h, d, (gfn + i) as Gfn, leaf);
    const pages = 2 ** Math.min(order, leaf.order);
    if (isPod(leaf.type)) found.pod += pages;
    else if (stealable(h, leaf.type, m)) found.ram += pages;
    i += pages;
  }
  return found;
}

/** Drivers give back single pages: if the whole 2M around is zero, take it and let the rest be PoD. */
function reclaimAround(h: Host, d: Domain, gfn: Gfn, found: Found, pages: number): void {
  const base = Math.floor(gfn / SUPERPAGE_PAGES) * SUPERPAGE_PAGES;
  if (zeroCheckSuperpage(h, d, base as Gfn) === 0) return;
  found.pod = pages;
  found.ram = 0;
}

/** All of the chunk is PoD: nothing to free, it only stops existing. */
function dropEntries(h: Host, d: Domain, gfn: Gfn, order: Order): number {
  if (p2mSetEntry(h, d, gfn, INVALID_MFN, order, p2mType.invalid, p2mAccess.rwx) !== 0) {
    // One leaf fails as a whole; of a range an unknown part may be gone.
    if (order > 0) crash(h, d);
    return 0;
  }
  d.r.podEntryCount -= 2 ** order;
  h.assert(d.r.podEntryCount >= 0, 'PoD entry_count >= 0');
  return 2 ** order;
}

/** Leaf by leaf while there are PoD entries to drop, or RAM to steal and a debt to pay with it. */
function dropLeaves(h: Host, d: Domain, gfn: Gfn, order: Order, found: Found): number {
  const leaf = new Leaf();
  let handled = 0;
  for (let i = 0; i < 2 ** order && (found.pod > 0 || (inDebt(d) && found.ram > 0)); ) {
    const at = (gfn + i) as Gfn;
    const m = peekEntry(h, d, at, leaf);
    const size = Math.min(order, leaf.order);
    const pages = 2 ** size;
    const pod = isPod(leaf.type);
    i += pages;
    if (!pod && !(inDebt(d) && stealable(h, leaf.type, m))) continue;
    if (p2mSetEntry(h, d, at, INVALID_MFN, size, p2mType.invalid, p2mAccess.rwx) !== 0) {
      crash(h, d);
      return handled;
    }
    if (pod) {
      d.r.podEntryCount -= pages;
      h.assert(d.r.podEntryCount >= 0, 'PoD entry_count >= 0');
      found.pod -= pages;
    } else {
      // The frames go somewhere else than the heap: no CPU may still reach them.
      p2mTlbFlushSync(h, d);
      h.frames.clearM2pBlock(m, pages);
      const rc = cacheAdd(h, d, m, size);
      h.assert(rc === 0, 'a stolen page fits the PoD cache');
      h.counters.add(C_STEAL, pages);
      found.ram -= pages;
    }
    handled += pages;
  }
  return handled;
}

const crash = (h: Host, d: Domain): void =>
  domainCrash(h, d, 'domain_crash called from decrease_reservation: part of a range may be gone');
