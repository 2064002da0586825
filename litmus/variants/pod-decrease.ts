// XENMEM_decrease_reservation of a PoD domain as it was: one function that counts, drops and steals, with each historic mistake
// under the name of its advisory. What the mistakes have in common (locks, order of the steps) is as it is today.
import type { World } from '#explore/world';
import type { Domain } from '#model/domain/domain';
import { alignmentOrder, INVALID_MFN, type Mfn, type Order, PAGE_ORDER_2M } from '#model/frames/addresses';
import { frameFlag } from '#model/frames/frame-table';
import type { Host } from '#model/host';
import { errno } from '#model/hypercall/errno';
import { p2mLock, p2mTlbFlushSync, p2mUnlock } from '#model/p2m/p2m';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';
import { guestRemovePage } from '#model/p2m/physmap';
import { p2mSetEntry } from '#model/p2m/set-entry';
import { isPod, isRam, p2mAccess, p2mType } from '#model/p2m/types';
import { cacheAdd } from '#model/pod/cache';
import { inDebt } from '#model/pod/pod-state';
import { step, stepKind } from '#model/shared-memory/step';

/**
 * - XSA-507: the type alone says what may be stolen, so Xen's own pages go to the cache too.
 * - PoD-M2P: of a block that is stolen only the first frame's M2P is cleared, again and again.
 * - XSA-388a: a range is looked at as if it were aligned to its order.
 * - XSA-388b: the cache takes blocks of the orders of table entries only, and the host stops at another.
 */
export type PodMistake = 'XSA-507' | 'PoD-M2P' | 'XSA-388a' | 'XSA-388b';

/** The call, extent by extent of one: PoD code first, then the generic removal of what it left. Answers extents done. */
export function decreaseReservationBefore(
  w: World,
  domid: number,
  gfn: number,
  order: Order,
  mistake: PodMistake,
): number {
  const { host } = w;
  const d = w.domain(domid);
  const chunk = mistake === 'XSA-388a' ? order : alignmentOrder(gfn, order);
  let handled = 0;
  for (let at = gfn; at < gfn + 2 ** order; at += 2 ** chunk) handled += decreaseChunk(host, d, at, chunk, mistake);
  for (let j = 0; j + handled < 2 ** order; j++) {
    const rc = guestRemovePage(host, d, gfn + j);
    if (rc === 0) continue;
    if (rc !== -errno.ENOENT || handled === 0) return 0;
    handled--;
  }
  return 1;
}

function decreaseChunk(h: Host, d: Domain, gfn: number, order: Order, mistake: PodMistake): number {
  p2mLock(h, d);
  d.locks.pod.lock();
  try {
    const steal = inDebt(d);
    const { pod, ram } = classify(h, d, gfn, order, mistake);
    if (pod === 0 && !steal) return 0;
    const pages = 2 ** order;
    if (pod !== pages) return dropLeaves(h, d, gfn, order, { pod, ram }, mistake);
    p2mSetEntry(h, d, gfn, INVALID_MFN, order, p2mType.invalid, p2mAccess.rwx);
    d.r.podEntryCount -= pages;
    return pages;
  } finally {
    d.locks.pod.unlock();
    p2mUnlock(h, d);
  }
}

const stealable = (h: Host, type: number, m: Mfn, mistake: PodMistake): boolean =>
  isRam(type) && (mistake === 'XSA-507' || !h.frames.has(m, frameFlag.special));

function classify(h: Host, d: Domain, gfn: number, order: Order, mistake: PodMistake): { pod: number; ram: number } {
  const leaf = new Leaf();
  const found = { pod: 0, ram: 0 };
  for (let i = 0; i < 2 ** order; ) {
    const m = peekEntry(h, d, gfn + i, leaf);
    const pages = 2 ** Math.min(order, leaf.order);
    if (isPod(leaf.type)) found.pod += pages;
    else if (stealable(h, leaf.type, m, mistake)) found.ram += pages;
    i += pages;
  }
  return found;
}

function dropLeaves(
  h: Host,
  d: Domain,
  gfn: number,
  order: Order,
  found: { pod: number; ram: number },
  mistake: PodMistake,
): number {
  const leaf = new Leaf();
  let handled = 0;
  for (let i = 0; i < 2 ** order && (found.pod > 0 || (inDebt(d) && found.ram > 0)); ) {
    const m = peekEntry(h, d, gfn + i, leaf);
    const size = Math.min(order, leaf.order);
    const pages = 2 ** size;
    const pod = isPod(leaf.type);
    const at = gfn + i;
    i += pages;
    if (!pod && !(inDebt(d) && stealable(h, leaf.type, m, mistake))) continue;
    p2mSetEntry(h, d, at, INVALID_MFN, size, p2mType.invalid, p2mAccess.rwx);
    if (pod) {
      d.r.podEntryCount -= pages;
      found.pod -= pages;
    } else {
      p2mTlbFlushSync(h, d);
      if (mistake === 'PoD-M2P') for (let j = 0; j < pages; j++) h.frames.setM2p(m, -1);
      else h.frames.clearM2pBlock(m, pages);
      take(h, d, m, size, mistake);
      found.ram -= pages;
    }
    handled += pages;
  }
  return handled;
}

function take(h: Host, d: Domain, m: Mfn, order: Order, mistake: PodMistake): void {
  if (mistake === 'XSA-388b' && order !== 0 && order !== PAGE_ORDER_2M) {
    step(stepKind.cacheAdd, m);
    h.panic(`BUG at p2m-pod.c: a block of order ${order} has no list in the PoD cache`);
  }
  cacheAdd(h, d, m, order);
}
