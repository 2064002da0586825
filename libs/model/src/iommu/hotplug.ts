// Devices that Xen comes to know and forgets: all those there at boot, and dom0's PHYSDEVOP_pci_device_add and _remove (as
// pci_add_device and pci_remove_device). A new device is dom0's. pcidevs lock.
import { formatSbdf, type Sbdf } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { backendOf } from './backend.ts';
import { changeOwner, currentOwner, leaveUnit, setContext, useUnit } from './device-owner.ts';
import { resetFaults } from './faults.ts';
import { mapRegionsAtBoot, mapRegionsOnArrival, unmapRegions } from './reserved-regions.ts';

/** The contexts of a device that nobody had become dom0's: 0 or the error of its own function; a phantom's is only logged. */
function giveToDom0(h: Host, device: number): number {
  const { dom0 } = h;
  useUnit(h, device, dom0);
  for (const fn of h.iommu.requesters.functions(device)) {
    const rc = setContext(h, device, fn, dom0);
    if (rc === 0) continue;
    h.platform.printk(`IOMMU: add ${formatSbdf(h.iommu.requesters.at(fn).sbdf)} failed (${rc})`);
    if (fn !== device) continue;
    leaveUnit(h, device, dom0);
    return rc;
  }
  changeOwner(h, device, null, dom0);
  return 0;
}

/** Boot: every device that is there becomes dom0's; dom0 has the reserved pages of all, and keeps them for ever. */
export function bootAssignAll(h: Host): void {
  h.pcidevsLock.lock();
  try {
    mapRegionsAtBoot(h);
    for (const [device, { sbdf, hotplug }] of h.config.devices.entries()) {
      if (hotplug) continue;
      const rc = giveToDom0(h, device);
      if (rc !== 0) h.panic(`IOMMU: cannot map ${formatSbdf(sbdf)} for dom0: ${rc}`);
    }
  } finally {
    h.pcidevsLock.unlock();
  }
}

/** PHYSDEVOP_pci_device_add. 0, also for a device that is known already; -ENODEV: this host has none there. */
export function addDevice(h: Host, sbdf: Sbdf | number): number {
  const device = h.iommu.deviceIndex(sbdf);
  if (device < 0) return -errno.ENODEV;
  h.pcidevsLock.lock();
  try {
    if (currentOwner(h, device) !== null) return 0;
    for (const word of ['broken', 'quarantine', 'atsOff'] as const) h.iommu.write(device, word, 0);
    resetFaults(h, device);
    if (h.config.iommuEnabled) {
      // Its reserved pages are there before its context is (XSA-400).
      mapRegionsOnArrival(h, device);
      const rc = giveToDom0(h, device);
      if (rc !== 0) {
        unmapRegions(h, h.dom0, device);
        return rc;
      }
    } else changeOwner(h, device, null, h.dom0);
    const kind = h.iommu.device(device).physicalFunction === undefined ? 'device' : 'virtual function';
    h.platform.printk(`PCI add ${kind} ${formatSbdf(sbdf as Sbdf)}`);
    return 0;
  } finally {
    h.pcidevsLock.unlock();
  }
}

/** Virtual functions of the device that Xen knows. */
const virtualFunctionsOf = (h: Host, device: number): number[] =>
  h.config.devices.flatMap(({ physicalFunction }, index) =>
    physicalFunction === h.iommu.device(device).sbdf && h.iommu.ownerOf(index) >= 0 ? [index] : [],
  );

/**
 * PHYSDEVOP_pci_device_remove, whoever owns the device. 0; -ENODEV: not known; -EBUSY: it has virtual functions (they and it
 * are broken from then on); or the error of a context write, with the device still known.
 */
export function removeDevice(h: Host, sbdf: Sbdf | number): number {
  const device = h.iommu.deviceIndex(sbdf);
  if (device < 0) return -errno.ENODEV;
  h.pcidevsLock.lock();
  try {
    const owner = currentOwner(h, device);
    if (owner === null) return -errno.ENODEV;
    const virtual = virtualFunctionsOf(h, device);
    if (virtual.length > 0) {
      for (const broken of [device, ...virtual]) h.iommu.write(broken, 'broken', 1);
      h.platform.printk(`Attempted to remove PCI SR-IOV PF ${formatSbdf(sbdf as Sbdf)} with VFs still present`);
      return -errno.EBUSY;
    }
    for (const fn of h.config.iommuEnabled ? h.iommu.requesters.functions(device) : []) {
      const rc = backendOf(h).contextClear(h, device, fn);
      if (rc !== 0) return rc;
    }
    changeOwner(h, device, owner, null);
    if (h.config.iommuEnabled) leaveUnit(h, device, owner);
    if (typeof owner !== 'number') unmapRegions(h, owner, device);
    h.platform.printk(`PCI remove device ${formatSbdf(sbdf as Sbdf)}`);
    return 0;
  } finally {
    h.pcidevsLock.unlock();
  }
}
