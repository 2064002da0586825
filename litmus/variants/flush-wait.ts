// Waiting for an invalidation as before XSA-373: for a while, and then no longer.
import type { World } from '#explore/world';
import type { Domain } from '#model/domain/domain';
import { putAllocRef, putPage } from '#model/domain/memory';
import type { Host } from '#model/host';
import { ofPages } from '#model/iommu/vtd/descriptor';
import { didOf } from '#model/iommu/vtd/domain-ids';
import { Leaf, peekEntry } from '#model/p2m/peek-entry';
import { p2mRemovePage } from '#model/p2m/physmap';
import { step, stepKind } from '#model/shared-memory/step';

/**
 * - 'told': the wait ends with the engine's next step at the latest, and the caller frees nothing (VT-d).
 * - 'untold': it ends so, and the caller frees the frame (AMD).
 * - 'full': the queue has no room, the request is dropped, and the caller frees the frame (AMD).
 */
export type GivingUp = 'told' | 'untold' | 'full';

/** A page leaves the p2m and the I/O tables; its flush is given up. */
export function removeGivingUp(w: World, domid: number, gfn: number, how: GivingUp): void {
  const { host } = w;
  const d = w.domain(domid);
  const m = peekEntry(host, d, gfn, new Leaf());
  host.frames.getPage(m, d.domid);
  host.iommu.dontFlush = true;
  p2mRemovePage(host, d, gfn, m, 0);
  host.iommu.dontFlush = false;
  if (how !== 'full') flushGivingUp(host, d, gfn);
  if (how !== 'told') putAllocRef(host, m);
  putPage(host, m);
}

function flushGivingUp(h: Host, d: Domain, gfn: number): void {
  for (const unit of h.iommu.units) {
    const { queue } = unit;
    if (queue === null) continue;
    step(stepKind.iotlbFlush, unit.index);
    unit.register.lock();
    queue.submit(ofPages(didOf(unit, d.domid), gfn, 0), h.cpu);
    unit.register.unlock();
    if (!queue.isDone(h.cpu)) step(stepKind.yield, unit.index);
  }
}
