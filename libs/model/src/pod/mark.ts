// Turns holes of a domain into populate-on-demand entries: XENMEM_populate_physmap with XENMEMF_populate_on_demand.
import { domainCrash } from '../domain/crash.ts';
import type { Domain } from '../domain/domain.ts';
import { alignmentOrder, type Gfn, INVALID_MFN, type Order } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { p2mLock, p2mUnlock } from '../p2m/p2m.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { p2mSetEntry } from '../p2m/set-entry.ts';
import { isPod, p2mAccess, p2mType } from '../p2m/types.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { refusedByDevice } from './pod-state.ts';

/**
 * As Xen's guest_physmap_mark_populate_on_demand: 2^order gfns from any gfn (a misaligned request is cut into aligned
 * chunks, XSA-388). No frame is allocated. 0; -EINVAL: not translated; -ENOTEMPTY: a device is there; -EBUSY: something
 * else than PoD or a hole is mapped; -ENOMEM: no table page (order > 0 crashes the domain then).
 */
export function markPopulateOnDemand(h: Host, d: Domain, gfn: Gfn | number, order: Order): number {
  if (!d.isTranslated) return -errno.EINVAL;
  if (refusedByDevice(h, d)) return -errno.ENOTEMPTY;
  const chunk = alignmentOrder(gfn, order);
  const end = gfn + 2 ** order;
  for (let at: number = gfn; at < end; at += 2 ** chunk) {
    const rc = markChunk(h, d, at as Gfn, chunk);
    if (rc !== 0) return rc;
  }
  return 0;
}

function markChunk(h: Host, d: Domain, gfn: Gfn, order: Order): number {
  p2mLock(h, d);
  try {
    const replaced = replaceable(h, d, gfn, order);
    if (replaced < 0) return replaced;
    // The count moves under the same hold of the pod lock as the entries (cc950c49ae): whoever takes only the pod lock
    // never sees an entry that is not counted.
    d.locks.pod.lock();
    const rc = p2mSetEntry(h, d, gfn, INVALID_MFN, order, p2mType.populateOnDemand, p2mAccess.rwx);
    if (rc === 0) {
      step(stepKind.count, gfn);
      d.r.podEntryCount += 2 ** order - replaced;
    }
    d.locks.pod.unlock();
    if (rc !== 0 && order > 0) {
      domainCrash(h, d, 'domain_crash called from mark_populate_on_demand: part of a range may be marked');
    }
    return rc;
  } finally {
    p2mUnlock(h, d);
  }
}

/** PoD pages that the new entries replace, or -EBUSY. p2m lock held. */
function replaceable(h: Host, d: Domain, gfn: Gfn, order: Order): number {
  const leaf = new Leaf();
  let replaced = 0;
  for (let i = 0; i < 2 ** order; ) {
    peekEntry(h, d, (gfn + i) as Gfn, leaf);
    const pages = 2 ** Math.min(order, leaf.order);
    if (isPod(leaf.type)) replaced += pages;
    else if (leaf.type !== p2mType.invalid && leaf.type !== p2mType.mmioDm) return -errno.EBUSY;
    i += pages;
  }
  return replaced;
}
