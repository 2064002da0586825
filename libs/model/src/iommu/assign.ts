// Which domain a device belongs to, and the change of that: boot, assign, deassign, death of a domain, groups (as Xen's
// passthrough/pci.c and vtd/iommu.c). Everything under the pcidevs lock. The order inside a change is what XSA-400 taught:
//
//   reserved pages mapped in the new domain → context entry swapped directly from old to new, caches of the old id flushed
//   → device moved between the lists → reserved pages unmapped in the old domain (dom0 keeps its own for ever)
import { domainCrash } from '../domain/crash.ts';
import type { Domain } from '../domain/domain.ts';
import { DOMID_IO, type Domid, formatSbdf, type Sbdf } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { DEV_RDM_RELAXED } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import { podActive } from '../pod/pod-state.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { backendOf } from './backend.ts';
import { forgetFaults } from './faults.ts';
import { quarantineContext, quarantineInit } from './quarantine.ts';
import { mapRegions, mapRegionsAtBoot, regionsOf, unmapRegions } from './reserved-regions.ts';

/** Who can own a device: a domain, or dom_io, the quarantine's pseudo domain. */
export type DeviceOwner = Domain | typeof DOMID_IO;

const HOST_BRIDGE = 0x0600;

/** Devices of a domain (or DOMID_IO), in the order of the host's description. */
export function devicesOf(h: Host, domid: Domid | number): Sbdf[] {
  return h.config.devices.filter((_, device) => h.iommu.ownerOf(device) === domid).map(({ sbdf }) => sbdf);
}

const isDomIo = (owner: DeviceOwner): owner is typeof DOMID_IO => owner === DOMID_IO;
const nameOf = (owner: DeviceOwner): string => (isDomIo(owner) ? 'd[IO]' : `d${owner.domid}`);

/** The present owner as a domain or dom_io; null: Xen does not know the device. */
function currentOwner(h: Host, device: number): DeviceOwner | null {
  const domid = h.iommu.ownerOf(device);
  if (domid < 0) return null;
  return domid === DOMID_IO ? DOMID_IO : h.domain(domid);
}

/** Moves the device between lists and units' use counts. */
function changeOwner(h: Host, device: number, from: DeviceOwner | null, to: DeviceOwner): void {
  step(stepKind.deviceAttach, device);
  const unit = h.iommu.unitOf(device).index;
  if (from && !isDomIo(from)) {
    from.locks.pci.lock();
    from.r.deviceCount--;
    from.locks.pci.unlock();
    h.iommu.addUnitUse(from.slot, unit, -1);
  }
  h.iommu.write(device, 'owner', (isDomIo(to) ? DOMID_IO : to.domid) + 1);
  if (isDomIo(to)) return;
  to.locks.pci.lock();
  to.r.deviceCount++;
  to.locks.pci.unlock();
}

/**
 * reassign_device_ownership: the context first, then the lists, then what the old owner no longer needs. Flushes of the new
 * owner reach the unit from before its context can be used.
 */
function reassign(h: Host, device: number, from: DeviceOwner, to: DeviceOwner): number {
  const unit = h.iommu.unitOf(device).index;
  if (!isDomIo(to)) h.iommu.addUnitUse(to.slot, unit, 1);
  const rc = isDomIo(to) ? quarantineContext(h, device) : backendOf(h).contextSet(h, to, device);
  if (rc !== 0) {
    if (!isDomIo(to)) h.iommu.addUnitUse(to.slot, unit, -1);
    return rc;
  }
  changeOwner(h, device, from, to);
  if (isDomIo(from) || from.isHardware) return 0;
  return unmapRegions(h, from, device);
}

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

/** intel_iommu_assign_device: nothing has changed if it answers an error. */
function vendorAssign(h: Host, from: DeviceOwner, to: DeviceOwner, device: number, flags: number): number {
  const shared = checkSharedRegions(h, to, device, (flags & DEV_RDM_RELAXED) !== 0);
  if (shared !== 0) return shared;
  if (isDomIo(to)) return reassign(h, device, from, to);
  if (h.iommu.device(device).pciClass >>> 8 === HOST_BRIDGE) return -errno.EPERM;
  const mapped = mapRegions(h, to, device, flags);
  if (mapped !== 0) return mapped;
  const rc = reassign(h, device, from, to);
  if (rc !== 0 && unmapRegions(h, to, device) !== 0) {
    domainCrash(h, to, `domain_crash called from iommu.c: d${to.domid} keeps reserved pages`);
  }
  return rc;
}

function assignLocked(h: Host, to: DeviceOwner, device: number, flags: number): number {
  const from = currentOwner(h, device);
  if (from === null) return -errno.ENODEV;
  if (!isDomIo(from) && !from.isHardware) return -errno.EBUSY;
  // arch_iommu_use_permitted: a device cannot wait for a page to be populated.
  if (!isDomIo(to) && h.config.policies.podWithPassthrough !== 'allow' && to.isTranslated && podActive(to)) {
    return -errno.EXDEV;
  }
  if (h.iommu.read(device, 'broken') !== 0) return -errno.EBADF;
  if (!isDomIo(from)) {
    const rc = quarantineInit(h, device);
    if (rc !== 0) return rc;
  }
  forgetFaults(h, device);
  const rc = vendorAssign(h, from, to, device, flags);
  if (rc === 0 && isDomIo(to)) h.iommu.write(device, 'quarantine', 1);
  return rc;
}

/**
 * XEN_DOMCTL_assign_device, the caller's identity aside. `to`: a domain, or DOMID_IO for "assignable-add". 0; -EOPNOTSUPP: no
 * IOMMU for it; -EINVAL: dying, or unknown flags; -ENODEV; -EBUSY: another guest has it; -EXDEV: PoD; -EBADF: broken; -EPERM:
 * shared RMRR, or a host bridge; -EBUSY / -EADDRINUSE: a reserved page is in use; -ENOMEM. No side effect on any error.
 */
export function assignDevice(h: Host, to: DeviceOwner, sbdf: Sbdf | number, flags: number): number {
  if (isDomIo(to) ? !h.config.iommuEnabled : !to.has('iommu')) return -errno.EOPNOTSUPP;
  if ((!isDomIo(to) && to.dying) || (flags & ~DEV_RDM_RELAXED) !== 0) return -errno.EINVAL;
  const device = h.iommu.deviceIndex(sbdf);
  if (device < 0) return -errno.ENODEV;
  h.pcidevsLock.lock();
  try {
    const rc = assignLocked(h, to, device, flags);
    if (rc !== 0) {
      h.platform.printk(`${nameOf(to)}: assign (${formatSbdf(h.iommu.device(device).sbdf)}) failed (${rc})`);
    }
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

/** To quarantine if that is on or the device came from it, else to dom0; out of quarantine always to dom0. */
function deassignLocked(h: Host, from: DeviceOwner, device: number): number {
  const { iommu } = h;
  const quarantined = iommu.read(device, 'quarantine') !== 0 || h.config.quarantine !== 'none';
  const to: DeviceOwner = quarantined && !isDomIo(from) ? DOMID_IO : h.dom0;
  if (isDomIo(to)) {
    const rc = quarantineInit(h, device);
    if (rc !== 0) return rc;
  }
  const rc = reassign(h, device, from, to);
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

/** Devices behind one bridge can reach each other unseen: the topmost upstream bridge names the group, or the device. */
export const groupOf = (h: Host, device: number): Sbdf =>
  h.iommu.device(device).upstreamBridge ?? h.iommu.device(device).sbdf;

/** Other devices of the same segment and group that `d` owns, at most `max`. */
export function getDeviceGroup(
  h: Host,
  d: Domain,
  sbdf: Sbdf | number,
  max: number,
): { readonly rc: number; readonly sbdfs: readonly Sbdf[] } {
  if (!d.has('iommu')) return { rc: -errno.EOPNOTSUPP, sbdfs: [] };
  const device = h.iommu.deviceIndex(sbdf);
  if (device < 0) return { rc: 0, sbdfs: [] };
  const group = groupOf(h, device);
  const segment = Math.floor(sbdf / 65536);
  h.pcidevsLock.lock();
  const sbdfs = devicesOf(h, d.domid).filter(
    (other) =>
      other !== sbdf && Math.floor(other / 65536) === segment && groupOf(h, h.iommu.deviceIndex(other)) === group,
  );
  h.pcidevsLock.unlock();
  return { rc: 0, sbdfs: sbdfs.slice(0, max) };
}

/** Boot: every device becomes dom0's, with its reserved pages, which dom0 keeps for ever. A failed map is only logged. */
export function bootAssignAll(h: Host): void {
  const { dom0 } = h;
  h.pcidevsLock.lock();
  try {
    for (let device = 0; device < h.config.devices.length; device++) {
      mapRegionsAtBoot(h, device);
      h.iommu.addUnitUse(dom0.slot, h.iommu.unitOf(device).index, 1);
      const rc = backendOf(h).contextSet(h, dom0, device);
      if (rc !== 0) h.panic(`IOMMU: cannot map ${formatSbdf(h.iommu.device(device).sbdf)} for dom0: ${rc}`);
      changeOwner(h, device, null, dom0);
    }
  } finally {
    h.pcidevsLock.unlock();
  }
}
