// VT-d invalidations as Xen issues them: which granularity, on which units, and the wait for transactions under way. The
// policy iotlb.flush decides whether a flush of the IOTLB happens now, later or never; context changes always flush now.
// Callers may hold the p2m, context and mapping locks; a DMA thread holds none, so the wait cannot deadlock.
import type { Domain } from '../../domain/domain.ts';
import { INVALID_DFN } from '../../frames/addresses.ts';
import type { Host } from '../../host.ts';
import { errno } from '../../hypercall/errno.ts';
import { counter } from '../../shared-memory/counters.ts';
import { step, stepKind } from '../../shared-memory/step.ts';
import { FLUSHF_all, FLUSHF_modified } from '../flags.ts';
import type { Unit } from '../iommu-state.ts';

const C_PAGE = counter('iommu.flushPage');
const C_DOMAIN = counter('iommu.flushDomain');
const C_SKIPPED = counter('iommu.flushSkipped');
const C_WAIT = counter('iommu.flushWait');

const DID_MASK = 0xffff;
/** Domain ids from here on are the private ones of quarantined devices. */
export const FIRST_QUARANTINE_DID = 0x8000;

/** The id a unit knows a domain by. A caching-mode unit tags what is absent with 0, so no domain may have that id there. */
export const didOf = (unit: Unit, domid: number): number =>
  unit.config.cachingMode ? ~domid & DID_MASK : domid & DID_MASK;
/** The domid (or quarantine pseudo id) behind a unit's id: the mapping is its own inverse. */
export const domidOfDid = (unit: Unit, did: number): number => didOf(unit, did);

function waitInFlight(h: Host, unit: Unit): void {
  step(stepKind.waitFor, unit.index);
  if (h.iommu.inFlight.waitForOpen(unit.index, h.lockTable)) h.counters.add(C_WAIT);
}

/** Domain-selective invalidation of one unit, complete on return. */
export function invalidateDomain(h: Host, unit: Unit, did: number): void {
  step(stepKind.iotlbFlush, unit.index);
  unit.register.lock();
  unit.cache.beginFlush(did);
  unit.cache.invalidateDomain(did);
  unit.register.unlock();
  h.counters.add(C_DOMAIN);
  waitInFlight(h, unit);
}

function invalidatePages(h: Host, unit: Unit, did: number, dfn: number, order: number): void {
  step(stepKind.iotlbFlush, unit.index);
  unit.register.lock();
  unit.cache.beginFlush();
  unit.cache.invalidatePages(did, dfn, order);
  unit.register.unlock();
  h.counters.add(C_PAGE);
  waitInFlight(h, unit);
}

/** Device-selective invalidation of the context cache, then everything of the domain id it had. Complete on return. */
export function invalidateContext(h: Host, unit: Unit, device: number, did: number): void {
  step(stepKind.iotlbFlush, unit.index);
  unit.register.lock();
  unit.cache.beginFlush(did);
  unit.cache.invalidateContext(device);
  unit.cache.invalidateDomain(did);
  unit.register.unlock();
  h.counters.add(C_DOMAIN);
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
      h.counters.add(C_SKIPPED);
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
    if (domid >= 0 && !everything) for (const unit of units) invalidateDomain(h, unit, didOf(unit, domid));
  }
  if (!everything) return;
  for (const unit of units) {
    step(stepKind.iotlbFlush, unit.index);
    unit.register.lock();
    unit.cache.beginFlush();
    unit.cache.invalidateAll();
    unit.register.unlock();
    h.counters.add(C_DOMAIN);
    waitInFlight(h, unit);
  }
}
