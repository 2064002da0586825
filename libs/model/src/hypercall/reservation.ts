// XENMEM populate_physmap, increase_reservation, decrease_reservation. They answer the number of extents fully done, in
// every failure case, and never a negative number: callers compare with what they asked for.
import type { Domain } from '../domain/domain.ts';
import { allocDomheap } from '../domain/memory.ts';
import { allocScrubbed } from '../domain/pending-scrub.ts';
import type { Host } from '../host.ts';
import { guestPhysmapAddPage, guestRemovePage } from '../p2m/physmap.ts';
import { podDecreaseReservation } from '../pod/decrease.ts';
import { markPopulateOnDemand } from '../pod/mark.ts';
import { type CallOf, extentAt, extentCount, XENMEMF_populate_on_demand } from './calls.ts';
import { extentsOk, isCount, isExtentCount, isRun, targetDomain } from './checks.ts';
import { type Caller, type ContinuationState, goOn, type Outcome, rc } from './continuation.ts';
import { errno } from './errno.ts';

/** Order limits of the *caller* (boot option memop-max-order). */
const ORDER_DOMU = 9;
const ORDER_WITH_DEVICE = 12;
const ORDER_CONTROL = 18;
const MAX_ORDER = 18;

export function maxOrder(caller: Caller): number {
  const d = caller.domain;
  if (d.isHardware) return ORDER_CONTROL;
  return d.r.deviceCount > 0 || d.r.iomemCount > 0 ? ORDER_WITH_DEVICE : ORDER_DOMU;
}

/**
 * Runs `extent(i)` from where the last slice stopped; it answers false when the call stops there, 'again' when the extent is
 * to go on in the next slice.
 */
function eachExtent(
  caller: Caller,
  count: number,
  state: ContinuationState | null,
  extent: (i: number) => boolean | 'again',
): Outcome {
  const start = state?.at ?? 0;
  for (let i = start; i < count; i++) {
    // Never before the first extent of a slice: a slice always makes progress.
    if (i !== start && caller.preempt()) return goOn({ at: i });
    const result = extent(i);
    if (result === 'again') return goOn({ at: i });
    if (!result) return rc(i);
  }
  return rc(count);
}

export function populatePhysmap(
  h: Host,
  caller: Caller,
  call: CallOf<'populate_physmap'>,
  state: ContinuationState | null,
): Outcome {
  const { extents, order } = call;
  const stoppedAt = state?.at ?? 0;
  const d = targetDomain(h, caller, call.domid);
  if (typeof d === 'number' || !extentsOk(extents) || !isCount(order) || !isCount(call.memFlags)) return rc(stoppedAt);
  const pod = (call.memFlags & XENMEMF_populate_on_demand) !== 0;
  if (order > (pod ? MAX_ORDER : maxOrder(caller))) return rc(stoppedAt);
  if (pod && d === caller.domain) return rc(stoppedAt);
  return eachExtent(caller, extentCount(extents), state, (i) => {
    const gfn = extentAt(extents, i, order);
    if (d.dying || !isRun(gfn, 2 ** order)) return false;
    return pod ? markPopulateOnDemand(h, d, gfn, order) >= 0 : populateExtent(h, d, gfn, order, () => caller.preempt());
  });
}

/** A frame that was allocated and could not be mapped stays the domain's, without a gfn. */
function populateExtent(h: Host, d: Domain, gfn: number, order: number, preempt: () => boolean): boolean | 'again' {
  const m = d.r.creationFinished === 0 ? allocScrubbed(h, d, order, preempt) : allocDomheap(h, d, order);
  if (m === 'again') return m;
  return m >= 0 && guestPhysmapAddPage(h, d, gfn, m as Exclude<typeof m, -1>, order) === 0;
}

/** Adds pages to tot_pages; a translated domain gets no gfn for them. */
export function increaseReservation(
  h: Host,
  caller: Caller,
  call: CallOf<'increase_reservation'>,
  state: ContinuationState | null,
): Outcome {
  const { order, count } = call;
  const stoppedAt = state?.at ?? 0;
  const d = targetDomain(h, caller, call.domid);
  if (typeof d === 'number' || !isExtentCount(count) || !isCount(order) || order > maxOrder(caller))
    return rc(stoppedAt);
  return eachExtent(caller, count, state, () => !d.dying && allocDomheap(h, d, order) >= 0);
}

export function decreaseReservation(
  h: Host,
  caller: Caller,
  call: CallOf<'decrease_reservation'>,
  state: ContinuationState | null,
): Outcome {
  const { extents, order } = call;
  const stoppedAt = state?.at ?? 0;
  const d = targetDomain(h, caller, call.domid);
  if (typeof d === 'number' || !extentsOk(extents) || !isCount(order) || order > maxOrder(caller)) return rc(stoppedAt);
  return eachExtent(caller, extentCount(extents), state, (i) => {
    const gfn = extentAt(extents, i, order);
    return isRun(gfn, 2 ** order) && decreaseExtent(h, d, gfn, order);
  });
}

/**
 * PoD code first; every gfn it handled is then found empty, exactly once each. Pages already removed stay removed although
 * the extent is not counted.
 */
function decreaseExtent(h: Host, d: Domain, gfn: number, order: number): boolean {
  const pages = 2 ** order;
  let handled = d.isTranslated ? podDecreaseReservation(h, d, gfn, order) : 0;
  for (let j = 0; j + handled < pages; j++) {
    const result = guestRemovePage(h, d, gfn + j);
    if (result === 0) continue;
    if (result !== -errno.ENOENT || handled === 0) return false;
    handled--;
  }
  return true;
}
