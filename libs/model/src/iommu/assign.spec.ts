import { describe, expect, it } from 'vitest';
import { bootWithDom0, deviceConfig, GPU, ioDomain, NIC, policies, USB } from '../../test-support/iommu-fixture.ts';
import { domainFeature, domainRecord } from '../domain/domain-record.ts';
import { DOMID_IO, type Mfn, sbdf } from '../frames/addresses.ts';
import type { HostConfig } from '../host-config.ts';
import { DEV_RDM_RELAXED } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { guestPhysmapAddPage } from '../p2m/physmap.ts';
import { p2mAccess, p2mType } from '../p2m/types.ts';
import { assignDevice, deassignDevice, releaseDevices, testAssignDevice } from './assign.ts';
import { contextDid, contextPresent } from './context-entry.ts';
import { devicesOf, getDeviceGroup } from './device-group.ts';
import { DmaThread } from './dma.ts';
import { identityMaps, iommuIdentityMapping, UNMAP_IDENTITY } from './identity-mapping.ts';
import { iommuLookupPage } from './iommu.ts';

const RMRR = { startPfn: 0x3f00, endPfn: 0x3f03, devices: [GPU] };
/** RAM ends below the reserved frames. */
const withRmrr = (rest: Partial<HostConfig> = {}): Partial<HostConfig> => ({
  heapRanges: [{ start: 0x10, end: 0x3e00 }],
  rmrrs: [RMRR],
  ...rest,
});

function typeAt(h: ReturnType<typeof bootWithDom0>['h'], d: ReturnType<typeof ioDomain>, g: number): number {
  const leaf = new Leaf();
  peekEntry(h, d, g, leaf);
  return leaf.type;
}

describe('at boot', () => {
  it('every device belongs to dom0, with its reserved pages, and reaches them', () => {
    const { h, dom0, log } = bootWithDom0(withRmrr());
    expect(devicesOf(h, 0)).toEqual([GPU, NIC, USB]);
    expect(dom0.r.deviceCount).toBe(3);
    expect(identityMaps(dom0)).toMatchObject([{ first: 0x3f00, last: 0x3f03, access: p2mAccess.rw, count: 1 }]);
    expect(iommuLookupPage(h, dom0, 0x3f02).mfn).toBe(0x3f02);
    const dma = new DmaThread(h, 0);
    expect(dma.transaction(GPU, 0x3f02, 'w', 1)).toBe(0);
    expect(log.violations).toEqual([]);
  });
});

describe('assign', () => {
  it('moves context, ownership and reserved pages, and dom0 keeps its own map for ever', () => {
    const { h, dom0 } = bootWithDom0(withRmrr());
    const d = ioDomain(h, 3);
    expect(assignDevice(h, d, GPU, 0)).toBe(0);
    expect(contextDid(h.iommu.contexts[0] as number)).toBe(3);
    expect([dom0.r.deviceCount, d.r.deviceCount]).toEqual([2, 1]);
    expect(typeAt(h, d, 0x3f01)).toBe(p2mType.mmioDirect);
    expect(iommuLookupPage(h, d, 0x3f01).mfn).toBe(0x3f01);
    expect(identityMaps(dom0)).toHaveLength(1);
    expect(deassignDevice(h, d, GPU)).toBe(0);
    expect(identityMaps(d)).toEqual([]);
    expect(typeAt(h, d, 0x3f01)).toBe(p2mType.mmioDm);
    expect(iommuLookupPage(h, d, 0x3f01).rc).toBe(-errno.ENOENT);
    expect(identityMaps(dom0)).toHaveLength(1);
  });

  it('answers Xen errors in their cases', () => {
    const { h, log } = bootWithDom0();
    const d = ioDomain(h, 1);
    const other = ioDomain(h, 2);
    expect(assignDevice(h, d, sbdf(0, 9, 9, 0), 0)).toBe(-errno.ENODEV);
    expect(assignDevice(h, d, GPU, 2)).toBe(-errno.EINVAL);
    expect(assignDevice(h, other, GPU, 0)).toBe(0);
    log.lines.length = 0;
    expect(assignDevice(h, d, GPU, 0)).toBe(-errno.EBUSY);
    expect(log.lines).toEqual(['d1: assign (0000:00:02.0) failed (-16)']);
    expect(testAssignDevice(h, GPU, 0)).toBe(-errno.EINVAL);
    expect(testAssignDevice(h, NIC, 0)).toBe(0);
    expect(testAssignDevice(h, NIC, DEV_RDM_RELAXED)).toBe(-errno.EINVAL);
    expect(deassignDevice(h, d, GPU)).toBe(-errno.ENODEV);
    h.iommu.write(h.iommu.deviceIndex(NIC), 'broken', 1);
    expect(assignDevice(h, d, NIC, 0)).toBe(-errno.EBADF);
    d.r.features &= ~domainFeature.iommu;
    expect(assignDevice(h, d, USB, 0)).toBe(-errno.EOPNOTSUPP);
    Atomics.store(other.r.words, domainRecord.at.isDying, 1);
    expect(assignDevice(h, other, USB, 0)).toBe(-errno.EINVAL);
  });

  it('refuses a domain with PoD state (-EXDEV), unless the policy is that of old', () => {
    for (const podWithPassthrough of ['refuse', 'allow'] as const) {
      const { h } = bootWithDom0({ policies: policies({ podWithPassthrough }) });
      const d = ioDomain(h, 1);
      d.r.podEntryCount = 1;
      expect(assignDevice(h, d, GPU, 0)).toBe(podWithPassthrough === 'allow' ? 0 : -errno.EXDEV);
    }
  });

  it('refuses a host bridge for guests', () => {
    const { h } = bootWithDom0({ devices: [deviceConfig(GPU, 'bridge', { pciClass: 0x060000 })] });
    expect(assignDevice(h, ioDomain(h, 1), GPU, 0)).toBe(-errno.EPERM);
  });

  it('refuses where RAM sits on a reserved page (-EBUSY, no side effect), and lets the RAM stay if relaxed', () => {
    const { h, log } = bootWithDom0(withRmrr());
    const d = ioDomain(h, 1);
    h.frames.fillBlock(0x100 as Mfn, 1, 1 as never, 1, 1);
    guestPhysmapAddPage(h, d, 0x3f02, 0x100 as Mfn, 0);
    log.lines.length = 0;
    const before = { context: h.iommu.contexts[0], owner: h.iommu.ownerOf(0) };
    expect(assignDevice(h, d, GPU, 0)).toBe(-errno.EBUSY);
    expect({ context: h.iommu.contexts[0], owner: h.iommu.ownerOf(0) }).toEqual(before);
    expect(identityMaps(d)).toEqual([]);
    expect(typeAt(h, d, 0x3f00)).toBe(p2mType.mmioDm);
    expect(typeAt(h, d, 0x3f02)).toBe(p2mType.ramRw);
    expect(log.lines).toContain('Cannot setup identity map d1:3f02, gfn already mapped to 100.');
    expect(log.lines).toContain('[VT-D]d1: cannot map reserved region [3f00000,3f03fff]: -16');
    expect(log.lines.at(-1)).toBe('d1: assign (0000:00:02.0) failed (-16)');
    expect(assignDevice(h, d, GPU, DEV_RDM_RELAXED)).toBe(0);
    expect(typeAt(h, d, 0x3f02)).toBe(p2mType.ramRw);
    expect(typeAt(h, d, 0x3f00)).toBe(p2mType.mmioDirect);
  });

  it('refuses a region that other devices name too (-EPERM), or calls it risky if relaxed', () => {
    const { h, log } = bootWithDom0(withRmrr({ rmrrs: [{ ...RMRR, devices: [GPU, USB] }] }));
    const d = ioDomain(h, 1);
    expect(assignDevice(h, d, GPU, 0)).toBe(-errno.EPERM);
    expect(log.lines).toContain("[VT-D] It's disallowed to assign 0000:00:02.0 with shared RMRR at 3f00000 for d1.");
    expect(assignDevice(h, d, GPU, DEV_RDM_RELAXED)).toBe(0);
    expect(log.lines).toContain("[VT-D] It's risky to assign 0000:00:02.0 with shared RMRR at 3f00000 for d1.");
    expect(assignDevice(h, d, USB, DEV_RDM_RELAXED)).toBe(0);
    expect(identityMaps(d)[0]?.count).toBe(2);
    expect(deassignDevice(h, d, GPU)).toBe(0);
    expect(typeAt(h, d, 0x3f00)).toBe(p2mType.mmioDirect);
    expect(deassignDevice(h, d, USB)).toBe(0);
    expect(typeAt(h, d, 0x3f00)).toBe(p2mType.mmioDm);
  });
});

describe('quarantine', () => {
  const assignAndReturn = (rest: Partial<HostConfig>) => {
    const fixture = bootWithDom0(rest);
    const d = ioDomain(fixture.h, 1);
    expect(assignDevice(fixture.h, d, GPU, 0)).toBe(0);
    expect(deassignDevice(fixture.h, d, GPU)).toBe(0);
    return { ...fixture, d, dma: new DmaThread(fixture.h, 0) };
  };

  it('basic: the device has no context and faults with reason 2, until it is taken out to dom0', () => {
    const { h, dma } = assignAndReturn({});
    expect(h.iommu.ownerOf(0)).toBe(DOMID_IO);
    expect(contextPresent(h.iommu.contexts[0] as number)).toBe(false);
    expect(dma.transaction(GPU, 5, 'w', 1)).toBe(2);
    expect(deassignDevice(h, DOMID_IO, GPU)).toBe(0);
    expect(h.iommu.ownerOf(0)).toBe(0);
  });

  it('basic, with reserved pages: private tables map exactly those', () => {
    const { dma, log } = assignAndReturn(withRmrr());
    expect(dma.transaction(GPU, 0x3f03, 'w', 1)).toBe(0);
    expect(dma.transaction(GPU, 0x3f04, 'w', 1)).toBe(5);
    expect(log.violations).toEqual([]);
  });

  it('scratch-page: nothing faults, writes end in one page that the next user finds zeroed, reserved pages are there', () => {
    const { h, d, dma, log } = assignAndReturn(withRmrr({ quarantine: 'scratch-page' }));
    for (const dfn of [0, 5, 0x3eff, 2 ** 20, 2 ** 35]) expect(dma.transaction(GPU, dfn, 'w', 99)).toBe(0);
    expect(dma.transaction(GPU, 2 ** 34 + 3, 'r', 0)).toBe(0);
    expect(dma.tag).toBe(99);
    dma.transaction(GPU, 0x3f00, 'w', 7);
    expect(h.frames.tag[0x3f00]).toBe(7);
    expect(assignDevice(h, d, GPU, 0)).toBe(0);
    expect(deassignDevice(h, d, GPU)).toBe(0);
    dma.transaction(GPU, 1, 'r', 0);
    expect(dma.tag).toBe(0);
    expect(log.violations).toEqual([]);
  });

  it('none: a device goes straight back to dom0, unless it was made assignable first', () => {
    const { h, d } = assignAndReturn({ quarantine: 'none' });
    expect(h.iommu.ownerOf(0)).toBe(0);
    expect(assignDevice(h, DOMID_IO, GPU, 0)).toBe(0);
    expect(h.iommu.ownerOf(0)).toBe(DOMID_IO);
    expect(assignDevice(h, d, GPU, 0)).toBe(0);
    expect(deassignDevice(h, d, GPU)).toBe(0);
    expect(h.iommu.ownerOf(0)).toBe(DOMID_IO);
    expect(deassignDevice(h, DOMID_IO, GPU)).toBe(0);
    expect(h.iommu.ownerOf(0)).toBe(0);
  });

  it('takes every device of a domain that dies', () => {
    const { h } = bootWithDom0(withRmrr());
    const d = ioDomain(h, 1);
    assignDevice(h, d, GPU, 0);
    assignDevice(h, d, NIC, 0);
    expect(releaseDevices(h, d)).toBe(0);
    expect(devicesOf(h, 1)).toEqual([]);
    expect(devicesOf(h, DOMID_IO)).toEqual([GPU, NIC]);
    expect(d.r.deviceCount).toBe(0);
    expect(identityMaps(d)).toEqual([]);
  });
});

describe('identity mappings', () => {
  it('count users of the same range, refuse overlaps and other rights, and know what they do not know', () => {
    const { h } = bootWithDom0(withRmrr({ rmrrs: [] }));
    const d = ioDomain(h, 1);
    const map = (access: number, first: number, last: number): number =>
      iommuIdentityMapping(h, d, access, first, last, 0);
    h.pcidevsLock.lock();
    expect(map(UNMAP_IDENTITY, 0x3f00, 0x3f01)).toBe(-errno.ENOENT);
    expect(map(p2mAccess.rw, 0x3f00, 0x3f01)).toBe(0);
    expect(map(p2mAccess.rw, 0x3f00, 0x3f01)).toBe(0);
    expect(map(p2mAccess.r, 0x3f00, 0x3f01)).toBe(-errno.EADDRINUSE);
    expect(map(p2mAccess.rw, 0x3f01, 0x3f02)).toBe(-errno.EADDRINUSE);
    expect(map(UNMAP_IDENTITY, 0x3f00, 0x3f01)).toBe(0);
    expect(typeAt(h, d, 0x3f01)).toBe(p2mType.mmioDirect);
    expect(map(UNMAP_IDENTITY, 0x3f00, 0x3f01)).toBe(0);
    expect(typeAt(h, d, 0x3f01)).toBe(p2mType.mmioDm);
    h.pcidevsLock.unlock();
  });

  it('keep their node when a later page fails, so that an unmap clears the pages done (XSA-460)', () => {
    const { h } = bootWithDom0(withRmrr({ rmrrs: [] }));
    const d = ioDomain(h, 1);
    h.frames.fillBlock(0x100 as Mfn, 1, 1 as never, 1, 1);
    guestPhysmapAddPage(h, d, 0x3f01, 0x100 as Mfn, 0);
    h.pcidevsLock.lock();
    expect(iommuIdentityMapping(h, d, p2mAccess.rw, 0x3f01, 0x3f02, 0)).toBe(-errno.EBUSY);
    expect(identityMaps(d)).toEqual([]);
    expect(iommuIdentityMapping(h, d, p2mAccess.rw, 0x3f00, 0x3f02, 0)).toBe(-errno.EBUSY);
    expect(identityMaps(d)).toHaveLength(1);
    expect(iommuIdentityMapping(h, d, UNMAP_IDENTITY, 0x3f00, 0x3f02, 0)).toBe(0);
    expect(typeAt(h, d, 0x3f00)).toBe(p2mType.mmioDm);
    expect(typeAt(h, d, 0x3f01)).toBe(p2mType.ramRw);
    h.pcidevsLock.unlock();
  });
});

describe('groups', () => {
  it('hold the devices behind one topmost bridge that the domain owns, without the one asked about', () => {
    const bridge = sbdf(0, 0, 0x1c, 0);
    const [a, b, c] = [sbdf(0, 4, 0, 0), sbdf(0, 4, 1, 0), sbdf(0, 5, 0, 0)] as const;
    const { h, dom0 } = bootWithDom0({
      devices: [
        deviceConfig(GPU, 'gpu'),
        ...[a, b, c].map((address) => deviceConfig(address, 'x', { upstreamBridge: bridge })),
      ],
    });
    expect(getDeviceGroup(h, dom0, a, 8)).toEqual({ rc: 0, sbdfs: [b, c] });
    expect(getDeviceGroup(h, dom0, a, 1).sbdfs).toEqual([b]);
    expect(getDeviceGroup(h, dom0, GPU, 8).sbdfs).toEqual([]);
    expect(getDeviceGroup(h, dom0, sbdf(0, 9, 0, 0), 8)).toEqual({ rc: 0, sbdfs: [] });
    expect(assignDevice(h, ioDomain(h, 1), b, 0)).toBe(0);
    expect(getDeviceGroup(h, dom0, a, 8).sbdfs).toEqual([c]);
  });
});
