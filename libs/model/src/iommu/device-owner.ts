// Who owns a device, and the steps a change of that is made of: the units' use counts, the context entries of its functions,
// the lists. Each step says what must have happened before; the order of a whole change is assign.ts. pcidevs lock held.
import type { Domain } from '../domain/domain.ts';
import { DOMID_IO } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { backendOf } from './backend.ts';
import { quarantineContext, quarantineDomid } from './quarantine.ts';

/** Who can own a device: a domain, or dom_io, the quarantine's pseudo domain. */
export type DeviceOwner = Domain | typeof DOMID_IO;

export const isDomIo = (owner: DeviceOwner): owner is typeof DOMID_IO => owner === DOMID_IO;
export const nameOf = (owner: DeviceOwner): string => (isDomIo(owner) ? 'd[IO]' : `d${owner.domid}`);

/** The present owner as a domain or dom_io; null: Xen does not know the device. */
export function currentOwner(h: Host, device: number): DeviceOwner | null {
  const domid = h.iommu.ownerOf(device);
  if (domid < 0) return null;
  return domid === DOMID_IO ? DOMID_IO : h.domain(domid);
}

/** Flushes of `owner` reach the device's unit from now on: before any of its contexts can be used. */
export function useUnit(h: Host, device: number, owner: DeviceOwner): void {
  if (!isDomIo(owner)) h.iommu.addUnitUse(owner.slot, h.iommu.unitOf(device).index, 1);
}

/** No function of the device walks the tables of `owner` any more. */
export function leaveUnit(h: Host, device: number, owner: DeviceOwner): void {
  if (!isDomIo(owner)) h.iommu.addUnitUse(owner.slot, h.iommu.unitOf(device).index, -1);
  backendOf(h).releaseId(h, device, isDomIo(owner) ? quarantineDomid(device) : owner.domid);
}

/** One function's context becomes that of `to`. 0 or an errno without effect. */
export const setContext = (h: Host, device: number, fn: number, to: DeviceOwner): number =>
  isDomIo(to) ? quarantineContext(h, device, fn) : backendOf(h).contextSet(h, to, device, fn);

/** Moves the device between the domains' lists; null: Xen comes to know it, or forgets it. */
export function changeOwner(h: Host, device: number, from: DeviceOwner | null, to: DeviceOwner | null): void {
  step(stepKind.deviceAttach, device);
  if (from && !isDomIo(from)) countDevice(from, -1);
  h.iommu.write(device, 'owner', to === null ? 0 : (isDomIo(to) ? DOMID_IO : to.domid) + 1);
  if (to && !isDomIo(to)) countDevice(to, 1);
}

function countDevice(d: Domain, delta: number): void {
  d.locks.pci.lock();
  d.r.deviceCount += delta;
  d.locks.pci.unlock();
}
