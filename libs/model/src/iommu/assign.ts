// Giving a device to a domain and taking it back: assign, deassign, death of a domain (as Xen's passthrough/pci.c and
// vtd/iommu.c). Everything under the pcidevs lock. The order inside a change is what XSA-400 taught:
//
//   reserved pages mapped in the new domain → context entry swapped directly from old to new, caches of the old id flushed
//   → device moved between the lists → phantom functions likewise → reserved pages unmapped in the old domain (dom0 keeps
//   its own for ever)
import { domainCrash } from '../domain/crash.ts';
import type { Domain } from '../domain/domain.ts';
import { DOMID_IO, formatSbdf, type Sbdf } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { DEV_RDM_RELAXED } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import { p2mLogDirtyGlobal } from '../p2m/recalc.ts';
import { podActive } from '../pod/pod-state.ts';
import { devicesOf } from './device-group.ts';
import {
  changeOwner,
  currentOwner,
  type DeviceOwner,
  isDomIo,
  leaveUnit,
  nameOf,
  setContext,
  useUnit,
} from './device-owner.ts';
import { forgetFaults } from './faults.ts';
import { quarantineInit } from './quarantine.ts';
import { regionsOf } from './regions-of.ts';
import { mapRegions, unmapRegions } from './reserved-regions.ts';

/** A reserved region that other devices name too: two guests must not get one each. */
function checkSharedRegions(h: Host, to: DeviceOwner, device: number, relaxed: boolean): number {
  for (const region of regionsOf(h, device)) {
    if (region.devices.length < 2) continue;
    h.platform.printk(
      `[VT-D] It's ${relaxed ? 'risky' : 'disallowed'} to assign ${formatSbdf(h.iommu.device(device).sbdf)} ` +
        `with shared RMRR at ${(region.startPfn * 4096).toString(16)} for ${nameOf(to)}.`,
    );
    if (!relaxed) return -errno.EPERM;
  }
  return 0;
}

/** The device's own function (intel_iommu_assign_device): nothing has changed if it answers an error. */
function assignFunction(h: Host, from: DeviceOwner, to: DeviceOwner, device: number, flags: number): number {
  const shared = checkSharedRegions(h, to, device, (flags & DEV_RDM_RELAXED) !== 0);
  if (shared !== 0) return shared;
  const mapped = isDomIo(to) ? 0 : mapRegions(h, to, device, flags);
  if (mapped !== 0) return mapped;
  useUnit(h, device, to);
  const rc = setContext(h, device, device, to);
  if (rc === 0) {
    changeOwner(h, device, from, to);
    return 0;
  }
  leaveUnit(h, device, to);
  if (!isDomIo(to) && unmapRegions(h, to, device) !== 0) {
    domainCrash(h, to, `domain_crash called from iommu.c: d${to.domid} keeps reserved pages`);
  }
  return rc;
}

const functionName = (h: Host, fn: number): string => formatSbdf(h.iommu.requesters.at(fn).sbdf);

/** Its phantom functions follow, or the device comes back from `to` (XSA-449); if even that fails it is broken. */
function assignPhantoms(h: Host, to: DeviceOwner, device: number): number {
  for (const fn of h.iommu.requesters.functions(device).slice(1)) {
    const rc = setContext(h, device, fn, to);
    if (rc === 0) continue;
    h.platform.printk(`${nameOf(to)}: assign phantom function (${functionName(h, fn)}) failed (${rc})`);
    if (deassignLocked(h, to, device) !== 0) {
      h.iommu.write(device, 'broken', 1);
      if (!isDomIo(to) && !to.isHardware) {
        domainCrash(h, to, `domain_crash called from pci.c: d${to.domid} keeps ${functionName(h, device)}`);
      }
    }
    return rc;
  }
  return 0;
}

/**
 * arch_iommu_use_permitted: a device cannot wait for a page to be populated, nor does its writing show in a log of dirty
 * pages. Sharing and paging, which Xen refuses as well, are not modelled.
 */
function usePermitted(h: Host, to: DeviceOwner): boolean {
  if (isDomIo(to) || !to.isTranslated) return true;
  if (p2mLogDirtyGlobal(to)) return false;
  return h.config.policies.podWithPassthrough === 'allow' || !podActive(to);
}

function assignLocked(h: Host, to: DeviceOwner, device: number, flags: number): number {
  const from = currentOwner(h, device);
  if (from === null) return -errno.ENODEV;
  if (!isDomIo(from) && !from.isHardware) return -errno.EBUSY;
  if (!usePermitted(h, to)) return -errno.EXDEV;
  if (h.iommu.read(device, 'broken') !== 0) return -errno.EBADF;
  if (!isDomIo(from)) {
    const rc = quarantineInit(h, device);
    if (rc !== 0) return rc;
  }
  forgetFaults(h, device);
  const rc = assignFunction(h, from, to, device, flags);
  if (rc !== 0) return rc;
  const phantoms = assignPhantoms(h, to, device);
  // A broken device may have functions left in the tables of `from`: those go on being flushed.
  if (h.iommu.read(device, 'broken') === 0) leaveUnit(h, device, from);
  if (phantoms === 0 && isDomIo(to)) h.iommu.write(device, 'quarantine', 1);
  return phantoms;
}

/**
 * XEN_DOMCTL_assign_device, the caller's identity aside. `to`: a domain, or DOMID_IO for "assignable-add". 0; -EOPNOTSUPP: no
 * IOMMU for it, or reserved pages behind a conventional bridge; -EINVAL: dying, or unknown flags; -ENODEV; -EBUSY: another
 * guest has it, or the unit has no domain id left; -EXDEV: PoD or log-dirty; -EBADF: broken; -EPERM: shared RMRR, or a host bridge;
 * -EBUSY / -EADDRINUSE: a reserved page is in use; -ENOMEM; -ENOSPC. No side effect on any error but that of a phantom
 * function, after which the device has left its old owner.
 */
export function assignDevice(h: Host, to: DeviceOwner, sbdf: Sbdf | number, flags: number): number {
  if (isDomIo(to) ? !h.config.iommuEnabled : !to.has('iommu')) return -errno.EOPNOTSUPP;
  if ((!isDomIo(to) && to.dying) || (flags & ~DEV_RDM_RELAXED) !== 0) return -errno.EINVAL;
  const device = h.iommu.deviceIndex(sbdf);
  if (device < 0) return -errno.ENODEV;
  h.pcidevsLock.lock();
  try {
    const rc = assignLocked(h, to, device, flags);
    if (rc !== 0) h.platform.printk(`${nameOf(to)}: assign (${functionName(h, device)}) failed (${rc})`);
    return rc;
  } finally {
    h.pcidevsLock.unlock();
  }
}

/** XEN_DOMCTL_test_assign_device: 0 if the device could be assigned now, else -EINVAL. */
export function testAssignDevice(h: Host, sbdf: Sbdf | number, flags: number): number {
  if (!h.config.iommuEnabled) return -errno.EOPNOTSUPP;
  if (flags !== 0) return -errno.EINVAL;
  h.pcidevsLock.lock();
  try {
    const device = h.iommu.deviceIndex(sbdf);
    const owner = device < 0 ? null : currentOwner(h, device);
    if (owner !== null && (isDomIo(owner) || owner.isHardware)) return 0;
    h.platform.printk(`${formatSbdf(sbdf as Sbdf)} already assigned, or non-existent`);
    return -errno.EINVAL;
  } finally {
    h.pcidevsLock.unlock();
  }
}

/** Phantom functions, then the device's own. What has moved stays there when a later one cannot. */
function moveBack(h: Host, from: DeviceOwner, to: DeviceOwner, device: number): number {
  const [own, ...phantoms] = h.iommu.requesters.functions(device) as readonly [number, ...number[]];
  useUnit(h, device, to);
  for (const [moved, fn] of [...phantoms, own].entries()) {
    const rc = setContext(h, device, fn, to);
    if (rc === 0) continue;
    if (moved === 0) leaveUnit(h, device, to);
    return rc;
  }
  changeOwner(h, device, from, to);
  leaveUnit(h, device, from);
  return isDomIo(from) || from.isHardware ? 0 : unmapRegions(h, from, device);
}

/** To quarantine if that is on or the device came from it, else to dom0; out of quarantine always to dom0. */
function deassignLocked(h: Host, from: DeviceOwner, device: number): number {
  const { iommu } = h;
  const quarantined = iommu.read(device, 'quarantine') !== 0 || h.config.quarantine !== 'none';
  const to: DeviceOwner = quarantined && !isDomIo(from) ? DOMID_IO : h.dom0;
  if (isDomIo(to)) {
    const rc = quarantineInit(h, device);
    if (rc !== 0) return rc;
  }
  const rc = moveBack(h, from, to, device);
  if (rc !== 0) return rc;
  if (!isDomIo(to)) iommu.write(device, 'quarantine', 0);
  forgetFaults(h, device);
  return 0;
}

/** XEN_DOMCTL_deassign_device. 0; -EOPNOTSUPP; -ENODEV: `from` does not have it; or the error of the move. */
export function deassignDevice(h: Host, from: DeviceOwner, sbdf: Sbdf | number): number {
  if (isDomIo(from) ? !h.config.iommuEnabled : !from.has('iommu')) return -errno.EOPNOTSUPP;
  const device = h.iommu.deviceIndex(sbdf);
  if (device < 0) return -errno.ENODEV;
  h.pcidevsLock.lock();
  try {
    const rc = currentOwner(h, device) === from ? deassignLocked(h, from, device) : -errno.ENODEV;
    if (rc !== 0) h.platform.printk(`${nameOf(from)}: deassign (${formatSbdf(sbdf as Sbdf)}) failed (${rc})`);
    return rc;
  } finally {
    h.pcidevsLock.unlock();
  }
}

/**
 * Destroy, stage a: every device of `d` leaves it. 0, or the first error: that device is marked broken and still walks the
 * tables of `d`, so these must not be freed (the domain stays a zombie).
 */
export function releaseDevices(h: Host, d: Domain): number {
  let result = 0;
  h.pcidevsLock.lock();
  try {
    for (const sbdf of devicesOf(h, d.domid)) {
      const device = h.iommu.deviceIndex(sbdf);
      const rc = deassignLocked(h, d, device);
      if (rc === 0 || h.iommu.ownerOf(device) !== d.domid) continue;
      h.platform.printk(`d${d.domid}: deassign (${formatSbdf(sbdf)}) failed (${rc})`);
      h.iommu.write(device, 'broken', 1);
      if (result === 0) result = rc;
    }
  } finally {
    h.pcidevsLock.unlock();
  }
  return result;
}
