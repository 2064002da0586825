// VT-d invalidations as Xen issues them: which granularity, on which units, device TLBs after the IOTLB, and the wait for
// transactions under way. The policy iotlb.flush decides whether a flush of the IOTLB happens now, later or never; context
// changes always flush now. Callers may hold the p2m, context and mapping locks; a DMA thread holds none, so the wait cannot
// deadlock.
import type { Domain } from '../../domain/domain.ts';
import { INVALID_DFN } from '../../frames/addresses.ts';
import type { Host } from '../../host.ts';
import { errno } from '../../hypercall/errno.ts';
import { counter } from '../../shared-memory/counters.ts';
import { step, stepKind } from '../../shared-memory/step.ts';
import { contextDid, contextType, contextTypeOf } from '../context-entry.ts';
import { deviceTlb, deviceTlbTimedOut } from '../device-tlb.ts';
import { FLUSHF_all, FLUSHF_modified } from '../flags.ts';
import type { Unit } from '../iommu-state.ts';
import { type Descriptor, ofContext, ofDeviceTlb, ofDomain, ofEverything, ofPages } from './descriptor.ts';
import { didOf } from './domain-ids.ts';

const C_PAGE = counter('iommu.flushPage');
const C_DOMAIN = counter('iommu.flushDomain');
const C_SKIPPED = counter('iommu.flushSkipped');
const C_WAIT = counter('iommu.flushWait');
const C_BUFFER = counter('iommu.flushWriteBuffer');
const C_DEVICE = counter('iommu.flushDeviceTlb');

/** Hands one request to the unit; it is carried out on return. */
function carryOut(h: Host, unit: Unit, descriptor: Descriptor): void {
  const { queue } = unit;
  unit.register.lock();
  if (queue) queue.submit(descriptor, h.cpu);
  else unit.execute(descriptor);
  unit.register.unlock();
  queue?.wait(h.cpu, h.lockTable, (line) => h.platform.printk(line));
}

function waitInFlight(h: Host, unit: Unit): void {
  step(stepKind.waitFor, unit.index);
  if (h.iommu.inFlight.waitForOpen(unit.index, h.lockTable)) h.counters.add(C_WAIT);
}

/**
 * The TLB of one device forgets the pages (`order` null: all of them), or the device is cut off when it does not answer.
 * After the IOTLB: until then it could fetch the old translation again.
 */
function flushDeviceTlb(h: Host, unit: Unit, device: number, dfn: number, order: number | null): void {
  if (deviceTlb(h, device) === null) return;
  h.counters.add(C_DEVICE);
  if (step(stepKind.deviceTlbFlush, device) === 0) carryOut(h, unit, ofDeviceTlb(device, dfn, order));
  else deviceTlbTimedOut(h, device);
}

/** Those of every device whose context names the domain id, as Xen's dev_invalidate_iotlb. */
function flushDeviceTlbs(h: Host, unit: Unit, did: number, dfn: number, order: number | null): void {
  const { deviceTlbs, contexts } = h.iommu;
  for (let device = 0; device < deviceTlbs.length; device++) {
    if (deviceTlbs[device] === null || h.iommu.unitOf(device) !== unit) continue;
    const context = contexts[device] as number;
    if (contextTypeOf(context) !== contextType.multiLevelAts || contextDid(context) !== did) continue;
    flushDeviceTlb(h, unit, device, dfn, order);
  }
}

/** Domain-selective invalidation of one unit, complete on return. */
export function invalidateDomain(h: Host, unit: Unit, did: number): void {
  step(stepKind.iotlbFlush, unit.index);
  carryOut(h, unit, ofDomain(did));
  h.counters.add(C_DOMAIN);
  flushDeviceTlbs(h, unit, did, 0, null);
  waitInFlight(h, unit);
}

function invalidatePages(h: Host, unit: Unit, did: number, dfn: number, order: number): void {
  step(stepKind.iotlbFlush, unit.index);
  carryOut(h, unit, ofPages(did, dfn, order));
  h.counters.add(C_PAGE);
  flushDeviceTlbs(h, unit, did, dfn, order);
  waitInFlight(h, unit);
}

/**
 * Device-selective invalidation of the context cache, then everything of the domain id it had, then what the device itself
 * keeps (the sheet names no such flush; without one the device would go on in its old domain's memory). Complete on return.
 */
export function invalidateContext(h: Host, unit: Unit, requester: number, did: number): void {
  step(stepKind.iotlbFlush, unit.index);
  carryOut(h, unit, ofContext(requester, did));
  carryOut(h, unit, ofDomain(did));
  h.counters.add(C_DOMAIN);
  const { device } = h.iommu.requesters.at(requester);
  if (device >= 0) flushDeviceTlb(h, unit, device, 0, null);
  waitInFlight(h, unit);
}

const isPowerOf2 = (n: number): boolean => n === 1 || (n > 0 && Number.isInteger(Math.log2(n)));

/**
 * As intel_iommu_iotlb_flush: nothing where only absent entries became present (unless the unit caches absence), by page
 * where the range is one aligned power of two that the unit can express, else the whole domain. 0 or -EINVAL.
 */
export function vtdIotlbFlush(h: Host, d: Domain, dfn: number, pages: number, flags: number): number {
  if (dfn === INVALID_DFN) return -errno.EINVAL;
  const whole = (flags & FLUSHF_all) !== 0 || !isPowerOf2(pages) || dfn % pages !== 0;
  const order = whole ? 0 : Math.log2(pages);
  for (const unit of h.iommu.units) {
    if (h.iommu.unitUse(d.slot, unit.index) === 0) continue;
    if ((flags & FLUSHF_modified) === 0 && !unit.config.cachingMode) {
      h.counters.add(unit.config.writeBufferFlush === true ? C_BUFFER : C_SKIPPED);
      continue;
    }
    const { iotlbFlush } = h.config.policies;
    if (iotlbFlush === 'lost') continue;
    if (iotlbFlush === 'deferred') {
      step(stepKind.write, d.slot);
      Atomics.store(h.iommu.pendingFlush, d.slot, d.domid + 1);
      continue;
    }
    const did = didOf(unit, d.domid);
    if (did < 0) continue;
    const byPage = !whole && unit.config.pageSelectiveInvalidation && order <= unit.config.maxAddressMask;
    if (byPage) invalidatePages(h, unit, did, dfn, order);
    else invalidateDomain(h, unit, did);
  }
  return 0;
}

/**
 * Carries out what the deferred policy put off. `everything`: table pages are about to be freed, and another CPU may just
 * have taken over the flush they wait for, so nothing is trusted and all units are emptied.
 */
export function deferredFlush(h: Host, everything: boolean): void {
  const { pendingFlush, units } = h.iommu;
  for (let slot = 0; slot < pendingFlush.length; slot++) {
    if (Atomics.load(pendingFlush, slot) === 0) continue;
    const domid = Atomics.exchange(pendingFlush, slot, 0) - 1;
    if (domid < 0 || everything) continue;
    for (const unit of units) {
      const did = didOf(unit, domid);
      if (did >= 0) invalidateDomain(h, unit, did);
    }
  }
  if (everything) for (const unit of units) invalidateEverything(h, unit);
}

function invalidateEverything(h: Host, unit: Unit): void {
  step(stepKind.iotlbFlush, unit.index);
  carryOut(h, unit, ofEverything);
  h.counters.add(C_DOMAIN);
  for (let device = 0; device < h.iommu.deviceTlbs.length; device++) {
    if (h.iommu.unitOf(device) === unit) flushDeviceTlb(h, unit, device, 0, null);
  }
  waitInFlight(h, unit);
}
