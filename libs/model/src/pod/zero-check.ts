// Takes mapped but all-zero guest memory back into the PoD cache. The order is the point: look, unmap, flush every CPU, look
// again; a write between the first look and the flush shows in the second and undoes the whole (pod fact sheet, race R3).
// A device's write in flight shows nowhere: only keeping devices away from PoD domains protects (R4).
// All functions: p2m write lock and pod lock held, taken in that order.
import { domainCrash } from '../domain/crash.ts';
import type { Domain } from '../domain/domain.ts';
import { type Gfn, INVALID_MFN, type Mfn, type Order, PAGE_ORDER_2M, SUPERPAGE_PAGES } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';
import { p2mTlbFlushSync } from '../p2m/p2m.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { p2mSetEntry } from '../p2m/set-entry.ts';
import { isRam, p2mAccess, p2mType } from '../p2m/types.ts';
import { counter } from '../shared-memory/counters.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { cacheAdd } from './cache.ts';

const C_SUPER = counter('pod.reclaimSuper');
const C_SINGLE = counter('pod.reclaimSingle');

/** Xen checks this many 4K pages with one flush (POD_SWEEP_STRIDE). */
export const ZERO_CHECK_STRIDE = 16;

/** Ordinary guest RAM that nobody but its p2m entry refers to, as far as can be seen without unmapping it. */
const reclaimable = (h: Host, d: Domain, m: Mfn): boolean =>
  h.frames.valid(m) &&
  h.frames.ownerOf(m) === d.domid &&
  h.frames.has(m, frameFlag.allocated) &&
  !h.frames.has(m, frameFlag.special | frameFlag.table) &&
  Atomics.load(h.frames.count, m) <= 1;

const looksZero = (h: Host, m: Mfn): boolean => {
  step(stepKind.read, m);
  return h.frames.isZero(m);
};

/**
 * As Xen's p2m_pod_zero_check_superpage: the 2M extent at an aligned gfn becomes one PoD entry and its frames go to the
 * cache, if it is all zero, contiguous and unshared. Pages reclaimed: 512 or 0. The debt stays what it was.
 */
export function zeroCheckSuperpage(h: Host, d: Domain, gfn: Gfn): number {
  if (gfn % SUPERPAGE_PAGES !== 0) return 0;
  const found = contiguousRam(h, d, gfn);
  if (!found) return 0;
  const { mfn, type } = found;
  if (!allZero(h, mfn)) return 0;

  if (setPod(h, d, gfn, PAGE_ORDER_2M) !== 0) return 0; // XSA-247: nothing changed, nothing is taken
  p2mTlbFlushSync(h, d);
  if (!unshared(h, mfn) || !allZero(h, mfn)) {
    restore(h, d, gfn, mfn, PAGE_ORDER_2M, type);
    return 0;
  }
  take(h, d, mfn, PAGE_ORDER_2M);
  h.counters.add(C_SUPER);
  return SUPERPAGE_PAGES;
}

function allZero(h: Host, first: Mfn): boolean {
  for (let i = 0; i < SUPERPAGE_PAGES; i++) if (!looksZero(h, (first + i) as Mfn)) return false;
  return true;
}

/** Nobody but the p2m entry that is gone now refers to any of the 512 frames. */
function unshared(h: Host, first: Mfn): boolean {
  for (let i = 0; i < SUPERPAGE_PAGES; i++) if (Atomics.load(h.frames.count, first + i) > 1) return false;
  return true;
}

/** The run of 512 frames behind a 2M extent, if it is RAM of one type all through and every frame may be taken. */
function contiguousRam(h: Host, d: Domain, gfn: Gfn): { mfn: Mfn; type: number } | null {
  const leaf = new Leaf();
  let first = INVALID_MFN;
  let type = -1;
  for (let i = 0; i < SUPERPAGE_PAGES; ) {
    const mfn = peekEntry(h, d, (gfn + i) as Gfn, leaf);
    if (!isRam(leaf.type)) return null;
    if (i === 0) {
      if (mfn % SUPERPAGE_PAGES !== 0) return null;
      first = mfn;
      type = leaf.type;
    } else if (leaf.type !== type || mfn !== first + i) return null;
    i += 2 ** Math.min(leaf.order, PAGE_ORDER_2M);
  }
  for (let i = 0; i < SUPERPAGE_PAGES; i++) if (!reclaimable(h, d, (first + i) as Mfn)) return null;
  return { mfn: first, type };
}

interface Candidate {
  readonly gfn: Gfn;
  readonly mfn: Mfn;
  readonly type: number;
}

/** As Xen's p2m_pod_zero_check: up to 16 single gfns, one flush for all of them. */
export function zeroCheck(h: Host, d: Domain, gfns: readonly Gfn[]): void {
  const leaf = new Leaf();
  const unmapped: Candidate[] = [];
  for (const gfn of gfns) {
    const mfn = peekEntry(h, d, gfn, leaf);
    const { type } = leaf;
    if (!isRam(type) || !reclaimable(h, d, mfn) || !looksZero(h, mfn)) continue;
    if (setPod(h, d, gfn, 0) !== 0) continue;
    if (Atomics.load(h.frames.count, mfn) > 1) restore(h, d, gfn, mfn, 0, type);
    else unmapped.push({ gfn, mfn, type });
  }
  if (unmapped.length === 0) return;
  p2mTlbFlushSync(h, d);
  for (const { gfn, mfn, type } of unmapped) {
    if (looksZero(h, mfn)) {
      take(h, d, mfn, 0);
      h.counters.add(C_SINGLE);
    } else restore(h, d, gfn, mfn, 0, type);
  }
}

const setPod = (h: Host, d: Domain, gfn: Gfn, order: Order): number =>
  p2mSetEntry(h, d, gfn, INVALID_MFN, order, p2mType.populateOnDemand, p2mAccess.rwx);

/** The check failed after the unmapping: the old mapping comes back, with default access. */
function restore(h: Host, d: Domain, gfn: Gfn, mfn: Mfn, order: Order, type: number): void {
  if (p2mSetEntry(h, d, gfn, mfn, order, type, p2mAccess.rwx) === 0) return;
  domainCrash(h, d, 'domain_crash called from pod/zero-check: a checked page cannot be mapped back');
}

function take(h: Host, d: Domain, mfn: Mfn, order: Order): void {
  h.frames.clearM2pBlock(mfn, 2 ** order);
  const rc = cacheAdd(h, d, mfn, order);
  h.assert(rc === 0, 'a checked page fits the PoD cache');
  d.r.podEntryCount += 2 ** order;
}
