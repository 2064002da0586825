// The domctls that give devices to domains and take them back, and the physdev_ops by which dom0 tells of devices that come
// and go. What they mean is iommu/assign.ts and iommu/hotplug.ts; here are the checks of the call, and the policy
// populate-first, which makes a PoD domain whole before a device may reach it.
import type { Domain } from '../domain/domain.ts';
import { DOMID_IO } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { assignDevice, deassignDevice, testAssignDevice } from '../iommu/assign.ts';
import { getDeviceGroup } from '../iommu/device-group.ts';
import type { DeviceOwner } from '../iommu/device-owner.ts';
import { addDevice, removeDevice } from '../iommu/hotplug.ts';
import { podActive } from '../pod/pod-state.ts';
import { podPopulateAll, startPopulating } from '../pod/populate-all.ts';
import { type CallOf, DEV_RDM_RELAXED } from './calls.ts';
import { isCount, isPrivileged } from './checks.ts';
import { type Caller, type ContinuationState, done, goOn, type Outcome, rc } from './continuation.ts';
import { domctlTarget, underDomctlLock } from './domctl.ts';
import { errno } from './errno.ts';

/** A domain, or the quarantine by its number. */
function ownerOf(h: Host, caller: Caller, id: unknown): DeviceOwner | number {
  if (id !== DOMID_IO) return domctlTarget(h, caller, id);
  return isPrivileged(caller) ? DOMID_IO : -errno.EPERM;
}

/** DOMID_IO is itself a number, so an error is what is negative. */
const failed = (owner: DeviceOwner | number): owner is number => typeof owner === 'number' && owner < 0;

export function assignDeviceOp(
  h: Host,
  caller: Caller,
  call: CallOf<'assign_device'>,
  state: ContinuationState | null,
): Outcome {
  const to = ownerOf(h, caller, call.domid);
  if (failed(to)) return rc(to);
  if (to === caller.domain || !isCount(call.sbdf) || !isCount(call.flags)) return rc(-errno.EINVAL);
  return underDomctlLock(h, state, () => {
    const owner = to as DeviceOwner; // not an error, checked above
    if (typeof owner !== 'number' && wantsPopulating(h, owner, call)) {
      const progress = state ? { at: state.at, cacheBefore: state.stage ?? 0 } : startPopulating(owner);
      const result = podPopulateAll(h, owner, progress, () => caller.preempt());
      if (result === -errno.ERESTART) return goOn({ at: progress.at, stage: progress.cacheBefore });
      if (result !== 0) return rc(result);
    }
    return rc(assignDevice(h, owner, call.sbdf, call.flags));
  });
}

/** Only for an assignment that nothing else stands against: populating costs memory. */
function wantsPopulating(h: Host, d: Domain, call: CallOf<'assign_device'>): boolean {
  if (h.config.policies.podWithPassthrough !== 'populate-first' || !d.isTranslated || d.dying) return false;
  const device = h.iommu.deviceIndex(call.sbdf);
  if (device < 0 || !d.has('iommu') || (call.flags & ~DEV_RDM_RELAXED) !== 0) return false;
  const owner = h.iommu.ownerOf(device);
  return (owner === DOMID_IO || owner === h.dom0.domid) && podActive(d);
}

export function deassignDeviceOp(h: Host, caller: Caller, call: CallOf<'deassign_device'>): Outcome {
  const from = ownerOf(h, caller, call.domid);
  if (failed(from)) return rc(from);
  if (from === caller.domain || !isCount(call.sbdf)) return rc(-errno.EINVAL);
  return underDomctlLock(h, null, () => rc(deassignDevice(h, from as DeviceOwner, call.sbdf))); // not an error, see above
}

/** The domain may not exist yet: the toolstack asks before it builds. */
export function testAssignDeviceOp(h: Host, caller: Caller, call: CallOf<'test_assign_device'>): Outcome {
  if (!isPrivileged(caller)) return rc(-errno.EPERM);
  if (!isCount(call.sbdf)) return rc(-errno.EINVAL);
  const d = isCount(call.domid) ? h.domain(call.domid) : null;
  if (d && !d.has('iommu')) return rc(-errno.EOPNOTSUPP);
  return underDomctlLock(h, null, () => rc(testAssignDevice(h, call.sbdf, 0)));
}

/** No longer under the domctl lock in Xen. */
export function getDeviceGroupOp(h: Host, caller: Caller, call: CallOf<'get_device_group'>): Outcome {
  const d = domctlTarget(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  if (!isCount(call.sbdf) || !isCount(call.max)) return rc(-errno.EINVAL);
  const { rc: result, sbdfs } = getDeviceGroup(h, d, call.sbdf, call.max);
  return done({ rc: result, sbdfs });
}

/** PHYSDEVOP_pci_device_add: only the hardware domain's kernel sees the bus. */
export function pciDeviceAdd(h: Host, caller: Caller, call: CallOf<'pci_device_add'>): Outcome {
  if (!isPrivileged(caller)) return rc(-errno.EPERM);
  return rc(isCount(call.sbdf) ? addDevice(h, call.sbdf) : -errno.EINVAL);
}

/** PHYSDEVOP_pci_device_remove */
export function pciDeviceRemove(h: Host, caller: Caller, call: CallOf<'pci_device_remove'>): Outcome {
  if (!isPrivileged(caller)) return rc(-errno.EPERM);
  return rc(isCount(call.sbdf) ? removeDevice(h, call.sbdf) : -errno.EINVAL);
}
