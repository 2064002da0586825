import { describe, expect, it } from 'vitest';
import { bootTestbed, expectSound, hypercall, makeGuest } from '../../test-support/hypercall-fixture.ts';
import { deviceConfig } from '../../test-support/iommu-fixture.ts';
import { smallConfig } from '../../test-support/p2m-fixture.ts';
import { DOMID_IO, type Sbdf, sbdf } from '../frames/addresses.ts';
import type { HostConfig } from '../host-config.ts';
import { errno } from '../hypercall/errno.ts';
import { contextPresent } from './context-entry.ts';
import { DmaThread } from './dma.ts';
import { identityMaps } from './identity-mapping.ts';

const NIC = sbdf(0, 3, 0, 0);
const VF = sbdf(0, 3, 0x10, 0);
const USB = sbdf(0, 0, 0x14, 0);
const LATE = sbdf(0, 4, 0, 0);

function bed(rest: Partial<HostConfig> = {}) {
  return bootTestbed({
    heapRanges: [{ start: 0x10, end: 0xf000 }],
    rmrrs: [{ startPfn: 0xf000, endPfn: 0xf001, devices: [USB, LATE] }],
    devices: [
      deviceConfig(NIC, 'nic'),
      deviceConfig(VF, 'virtual function', { physicalFunction: NIC, hotplug: true }),
      deviceConfig(USB, 'usb'),
      deviceConfig(LATE, 'plugged in later', { hotplug: true }),
    ],
    ...rest,
  });
}
type Bed = ReturnType<typeof bed>;
const add = (b: Bed, at: Sbdf) => hypercall(b, b.dom0, { op: 'pci_device_add', sbdf: at }).rc;
const remove = (b: Bed, at: Sbdf) => hypercall(b, b.dom0, { op: 'pci_device_remove', sbdf: at }).rc;

describe('a device that is plugged in', () => {
  it('is unknown before, then dom0’s with its reserved pages, and can be given away', () => {
    const b = bed();
    const d = makeGuest(b, { iommu: true });
    const assign = { op: 'assign_device', domid: d.domid, sbdf: LATE, flags: 1 } as const;
    expect(hypercall(b, b.dom0, assign).rc).toBe(-errno.ENODEV);
    expect(hypercall(b, b.dom0, { op: 'test_assign_device', domid: d.domid, sbdf: LATE }).rc).toBe(-errno.EINVAL);
    expect(hypercall(b, b.dom0, { op: 'device_reset', sbdf: LATE }).rc).toBe(-errno.ENODEV);
    // Firmware named it at boot already: dom0 has the region once for each device of its scope.
    expect(identityMaps(b.dom0)).toMatchObject([{ first: 0xf000, count: 2 }]);
    expect(add(b, LATE)).toBe(0);
    expect(b.log.lines).toContain('PCI add device 0000:04:00.0');
    expect(identityMaps(b.dom0)).toMatchObject([{ first: 0xf000, count: 3 }]);
    expect(new DmaThread(b.h, 0).transaction(LATE, 0xf001, 'w', 1)).toBe(0);
    expect(add(b, LATE)).toBe(0);
    expect(identityMaps(b.dom0)).toMatchObject([{ count: 3 }]);
    expect(hypercall(b, b.dom0, assign).rc).toBe(0);
    expectSound(b);
  });

  it('has no reserved pages when Xen ignored its region at boot, because none of its devices was there', () => {
    const b = bed({ rmrrs: [{ startPfn: 0xf000, endPfn: 0xf001, devices: [LATE] }] });
    expect(add(b, LATE)).toBe(0);
    expect(identityMaps(b.dom0)).toEqual([]);
  });

  it('and whose context cannot be written stays unknown, dom0’s region count as before', () => {
    const [unit] = smallConfig().units;
    if (!unit) throw new Error('the small host has a unit');
    const b = bed({ units: [{ ...unit, domainIds: 16 }] });
    remove(b, NIC);
    remove(b, USB);
    // All ids of the unit are somebody's now.
    b.h.iommu.units[0]?.didOwners.fill(999);
    const before = identityMaps(b.dom0);
    expect(add(b, LATE)).toBe(-errno.EBUSY);
    expect([identityMaps(b.dom0), b.h.iommu.ownerOf(3)]).toEqual([before, -1]);
    expect(b.log.lines).toContain('IOMMU: add 0000:04:00.0 failed (-16)');
  });
});

describe('a device that is taken out', () => {
  it('reaches nothing any more, and is unknown to all calls', () => {
    const b = bed();
    expect(remove(b, NIC)).toBe(0);
    expect(b.log.lines).toContain('PCI remove device 0000:03:00.0');
    expect(contextPresent(b.h.iommu.contexts[0] as number)).toBe(false);
    expect(new DmaThread(b.h, 0).transaction(NIC, 0x100, 'w', 1)).toBe(2);
    expect(remove(b, NIC)).toBe(-errno.ENODEV);
    expect(b.dom0.r.deviceCount).toBe(1);
    expectSound(b);
    expect(add(b, NIC)).toBe(0);
    expectSound(b);
  });

  it('takes its reserved pages out of the guest that has it', () => {
    const b = bed({ rmrrs: [{ startPfn: 0xf000, endPfn: 0xf001, devices: [USB] }] });
    const d = makeGuest(b, { iommu: true });
    hypercall(b, b.dom0, { op: 'assign_device', domid: d.domid, sbdf: USB, flags: 0 });
    expect(identityMaps(d)).toHaveLength(1);
    expect(remove(b, USB)).toBe(0);
    expect([identityMaps(d), d.r.deviceCount]).toEqual([[], 0]);
    expectSound(b);
  });

  it('may be in quarantine', () => {
    const b = bed();
    hypercall(b, b.dom0, { op: 'assign_device', domid: DOMID_IO, sbdf: USB, flags: 1 });
    expect(remove(b, USB)).toBe(0);
    expect(add(b, USB)).toBe(0);
    expect(b.h.iommu.ownerOf(2)).toBe(0);
    expectSound(b);
  });

  it('stays while it has virtual functions, and all of them are broken from then on', () => {
    const b = bed();
    expect(add(b, VF)).toBe(0);
    expect(b.log.lines).toContain('PCI add virtual function 0000:03:10.0');
    expect(remove(b, NIC)).toBe(-errno.EBUSY);
    const d = makeGuest(b, { iommu: true });
    for (const device of [NIC, VF]) {
      const call = { op: 'assign_device', domid: d.domid, sbdf: device, flags: 0 } as const;
      expect(hypercall(b, b.dom0, call).rc).toBe(-errno.EBADF);
    }
    expect(remove(b, VF)).toBe(0);
    expect(remove(b, NIC)).toBe(0);
  });
});

it('only dom0 tells Xen of devices', () => {
  const b = bed();
  const d = makeGuest(b);
  for (const op of ['pci_device_add', 'pci_device_remove'] as const) {
    expect(hypercall(b, d, { op, sbdf: NIC }).rc).toBe(-errno.EPERM);
  }
  expect(add(b, sbdf(0, 9, 0, 0))).toBe(-errno.ENODEV);
  expect(add(b, -1 as Sbdf)).toBe(-errno.EINVAL);
});
