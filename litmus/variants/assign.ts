// Giving a device to a domain, and taking it back, as before XSA-400, XSA-386 and XSA-449. The steps are the model's own
// (device-owner.ts, reserved-regions.ts); what was wrong is their order, one too many, or one that is left out.
import type { World } from '#explore/world';
import { DOMID_IO, type Sbdf } from '#model/frames/addresses';
import { backendOf } from '#model/iommu/backend';
import { changeOwner, currentOwner, type DeviceOwner, leaveUnit, setContext, useUnit } from '#model/iommu/device-owner';
import { quarantineInit } from '#model/iommu/quarantine';
import { mapRegions, unmapRegions } from '#model/iommu/reserved-regions';

/** Runs `change` with the pcidevs lock held; `from` is who has the device. */
function underPcidevs(w: World, sbdf: Sbdf, change: (device: number, from: DeviceOwner) => void): void {
  const { host } = w;
  host.pcidevsLock.lock();
  const device = host.iommu.deviceIndex(sbdf);
  const from = currentOwner(host, device);
  if (from !== null) change(device, from);
  host.pcidevsLock.unlock();
}

/** XSA-400: the context leads to the domain's tables before the reserved pages are in them. */
export function assignMappingLast(w: World, domid: number, sbdf: Sbdf): void {
  const { host } = w;
  underPcidevs(w, sbdf, (device, from) => {
    const to = w.domain(domid);
    quarantineInit(host, device);
    useUnit(host, device, to);
    setContext(host, device, device, to);
    changeOwner(host, device, from, to);
    leaveUnit(host, device, from);
    mapRegions(host, to, device, 0);
  });
}

/** XSA-400, the mirror: the reserved pages are taken away before the context is. */
export function takeBackUnmappingFirst(w: World, domid: number, sbdf: Sbdf): void {
  const { host } = w;
  underPcidevs(w, sbdf, (device) => {
    const from = w.domain(domid);
    quarantineInit(host, device);
    unmapRegions(host, from, device);
    setContext(host, device, device, DOMID_IO);
    changeOwner(host, device, from, DOMID_IO);
    leaveUnit(host, device, from);
  });
}

/** XSA-400: the old context goes, then the new one comes. */
export function assignThroughNothing(w: World, domid: number, sbdf: Sbdf): void {
  const { host } = w;
  underPcidevs(w, sbdf, (device, from) => {
    const to = w.domain(domid);
    quarantineInit(host, device);
    mapRegions(host, to, device, 0);
    useUnit(host, device, to);
    backendOf(host).contextClear(host, device, device);
    setContext(host, device, device, to);
    changeOwner(host, device, from, to);
    leaveUnit(host, device, from);
  });
}

/** XSA-400: quarantine is no context at all, for a device with reserved pages too. */
export function quarantineWithNothing(w: World, domid: number, sbdf: Sbdf): void {
  const { host } = w;
  underPcidevs(w, sbdf, (device) => {
    const from = w.domain(domid);
    backendOf(host).contextClear(host, device, device);
    changeOwner(host, device, from, DOMID_IO);
    leaveUnit(host, device, from);
    unmapRegions(host, from, device);
  });
}

/** XSA-386: unmapping the reserved pages answers 0, which is taken for the end. The caller believes the device gone. */
export function takeBackStopping(w: World, domid: number, sbdf: Sbdf): void {
  const { host } = w;
  underPcidevs(w, sbdf, (device) => {
    const from = w.domain(domid);
    quarantineInit(host, device);
    unmapRegions(host, from, device);
    changeOwner(host, device, from, DOMID_IO);
  });
}

/** XSA-449: an error of a phantom function is logged and forgotten. */
export function assignForgettingPhantoms(w: World, domid: number, sbdf: Sbdf): void {
  const { host } = w;
  underPcidevs(w, sbdf, (device, from) => {
    const to = w.domain(domid);
    const [own, ...phantoms] = host.iommu.requesters.functions(device) as readonly [number, ...number[]];
    useUnit(host, device, to);
    if (setContext(host, device, own, to) !== 0) {
      leaveUnit(host, device, to);
      return;
    }
    changeOwner(host, device, from, to);
    for (const phantom of phantoms) setContext(host, device, phantom, to);
    leaveUnit(host, device, from);
  });
}
