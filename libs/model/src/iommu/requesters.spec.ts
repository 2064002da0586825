import { describe, expect, it } from 'vitest';
import { bootWithDom0, deviceConfig, ioDomain, ownFrames, policies } from '../../test-support/iommu-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { DOMID_IO, formatSbdf, sbdf } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import type { DeviceConfig, HostConfig } from '../host-config.ts';
import { DEV_RDM_RELAXED } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import { checkInvariants } from '../invariants/check.ts';
import { installSeam, stepKind } from '../shared-memory/step.ts';
import { assignDevice, deassignDevice } from './assign.ts';
import { contextDid, contextPresent } from './context-entry.ts';
import { BUS_MASTER_OFF, DmaThread } from './dma.ts';
import { serviceFaults } from './faults.ts';
import { IOMMUF_readable, IOMMUF_writable } from './flags.ts';
import { identityMaps } from './identity-mapping.ts';
import { iommuLegacyMap } from './iommu.ts';

const RW = IOMMUF_readable | IOMMUF_writable;
let failing: (where: number) => boolean = () => false;
installSeam({ step: (kind, where) => (kind === stepKind.ctxWrite && failing(where) ? errno.EILSEQ : 0) });

/** The first write of that context fails. */
function once(requester: number): (where: number) => boolean {
  let left = 1;
  return (where) => where === requester && left-- > 0;
}

const BRIDGE = sbdf(0, 0, 0x1e, 0);
const A = sbdf(0, 5, 1, 0);
const B = sbdf(0, 5, 2, 0);
const PHANTOM = sbdf(0, 3, 0, 1);

function host(devices: readonly DeviceConfig[], rest: Partial<HostConfig> = {}) {
  const fixture = bootWithDom0({ policies: policies(), devices, ...rest });
  const { h } = fixture;
  const guest = (domid: number): Domain => {
    const d = ioDomain(h, domid);
    ownFrames(h, d, 0x1000 * domid, 16);
    iommuLegacyMap(h, d, 5, 0x1000 * domid, 1, RW);
    return d;
  };
  const idsOf = (device: number): string[] =>
    [...h.iommu.requesters.functions(device), ...h.iommu.requesters.aliases(device)].map((index) =>
      formatSbdf(h.iommu.requesters.at(index).sbdf),
    );
  const owners = (device: number): (number | null)[] =>
    h.iommu.requesters.functions(device).map((fn) => {
      const entry = h.iommu.contexts[fn] as number;
      return contextPresent(entry) ? contextDid(entry) : null;
    });
  return { ...fixture, guest, idsOf, owners, dma: new DmaThread(h, 0) };
}

/** What the invariants of devices find; the guests' RAM here is in the I/O tables only. */
const deviceFindings = (h: Host) => checkInvariants(h).filter(({ invariant }) => invariant !== 'iommuMirrorsP2m');

const behind = (kind: 'pcie-to-pci-bridge' | 'pci-bridge'): DeviceConfig[] => [
  deviceConfig(BRIDGE, 'bridge', { pciClass: 0x060401, kind, secondaryBus: 5 }),
  deviceConfig(A, 'a', { kind: 'pci', upstreamBridge: BRIDGE }),
  deviceConfig(B, 'b', { kind: 'pci', upstreamBridge: BRIDGE }),
];
const phantom = deviceConfig(PHANTOM, 'phantom', { phantomStride: 2 });

describe('the ids of a device', () => {
  it('are its own and, by its stride, those of its phantom functions up to the end of the slot', () => {
    const { idsOf } = host([phantom]);
    expect(idsOf(0)).toEqual(['0000:03:00.1', '0000:03:00.3', '0000:03:00.5', '0000:03:00.7']);
  });

  it('behind a conventional bridge are the bridge’s too, and (secondary bus, 00.0) where it leads to PCI Express', () => {
    expect(host(behind('pcie-to-pci-bridge')).idsOf(1)).toEqual(['0000:05:01.0', '0000:00:1e.0', '0000:05:00.0']);
    expect(host(behind('pci-bridge')).idsOf(1)).toEqual(['0000:05:01.0', '0000:00:1e.0']);
    expect(host(behind('pci-bridge')).idsOf(0)).toEqual(['0000:00:1e.0']);
  });
});

describe('phantom functions', () => {
  it('move with their device, and each reaches what the owner maps and nothing else', () => {
    const { h, guest, owners, dma, log } = host([phantom]);
    const d = guest(1);
    expect(owners(0)).toEqual([0, 0, 0, 0]);
    expect(assignDevice(h, d, PHANTOM, 0)).toBe(0);
    expect(owners(0)).toEqual([1, 1, 1, 1]);
    for (let i = 0; i < 8; i++) expect(dma.transaction(PHANTOM, 5, 'w', i)).toBe(0);
    for (let i = 0; i < 4; i++) expect(dma.transaction(PHANTOM, 9, 'w', i)).toBe(5);
    serviceFaults(h, 0);
    expect(log.lines.filter((line) => line.includes('[DMA Write]')).map((line) => line.slice(-32))).toEqual(
      [1, 3, 5, 7].map((fn) => `device [0000:03:00.${fn}] fault addr 9000`.slice(-32)),
    );
    expect(deassignDevice(h, d, PHANTOM)).toBe(0);
    expect(owners(0)).toEqual([null, null, null, null]);
    for (let i = 0; i < 4; i++) expect(dma.transaction(PHANTOM, 5, 'w', i)).toBe(2);
    expect(deassignDevice(h, DOMID_IO, PHANTOM)).toBe(0);
    expect(owners(0)).toEqual([0, 0, 0, 0]);
    expect([log.violations, deviceFindings(h)]).toEqual([[], []]);
  });

  it('whose context cannot be written take the whole device back, not only themselves (XSA-449)', () => {
    const { h, guest, owners, log } = host([phantom]);
    const d = guest(1);
    const third = h.iommu.requesters.functions(0)[2] as number;
    failing = once(third);
    expect(assignDevice(h, d, PHANTOM, 0)).toBe(-errno.EILSEQ);
    failing = () => false;
    expect(owners(0)).toEqual([null, null, null, null]);
    expect([h.iommu.ownerOf(0), h.iommu.read(0, 'broken'), d.crashed]).toEqual([DOMID_IO, 0, false]);
    expect(log.lines).toContain('d1: assign phantom function (0000:03:00.5) failed (-84)');
    expect(deviceFindings(h)).toEqual([]);
    expect(assignDevice(h, d, PHANTOM, 0)).toBe(0);
  });

  it('that cannot be taken back either leave the device broken and its domain crashed', () => {
    const { h, guest } = host([phantom]);
    const d = guest(1);
    const third = h.iommu.requesters.functions(0)[2] as number;
    failing = (where) => where === third;
    expect(assignDevice(h, d, PHANTOM, 0)).toBe(-errno.EILSEQ);
    failing = () => false;
    expect([h.iommu.read(0, 'broken'), d.crashed]).toEqual([1, true]);
    expect(assignDevice(h, guest(2), PHANTOM, 0)).toBe(-errno.EBUSY);
  });
});

describe('conventional PCI behind a bridge', () => {
  it('shares the ids that the bridge passes on: whoever was assigned last gets the requests of all', () => {
    const { h, guest, dma, log } = host(behind('pcie-to-pci-bridge'));
    const d = guest(1);
    expect(assignDevice(h, d, A, 0)).toBe(0);
    expect(dma.transaction(A, 5, 'w', 7)).toBe(0);
    expect(h.frames.tag[0x1000]).toBe(7);
    // B is dom0's still, and its writes land in the guest.
    expect(h.iommu.ownerOf(h.iommu.deviceIndex(B))).toBe(0);
    expect(dma.transaction(B, 5, 'w', 8)).toBe(0);
    expect(h.frames.tag[0x1000]).toBe(8);
    const other = guest(2);
    expect(assignDevice(h, other, B, 0)).toBe(0);
    expect(dma.transaction(A, 5, 'w', 9)).toBe(0);
    expect([h.frames.tag[0x1000], h.frames.tag[0x2000]]).toEqual([8, 9]);
    expect(deassignDevice(h, other, B)).toBe(0);
    expect(dma.transaction(A, 5, 'w', 9)).toBe(2);
    expect(log.violations).toEqual([]);
    expect(deviceFindings(h)).toEqual([]);
  });

  it('faults under the bridge’s id; blamed on a bridge, ten faults stop everything behind it', () => {
    const passedOn = host(behind('pcie-to-pci-bridge'));
    for (let i = 0; i < 12; i++) passedOn.dma.transaction(A, 0x7777, 'r', 0);
    serviceFaults(passedOn.h, 0);
    expect(passedOn.log.lines.find((line) => line.includes('DMA Read'))).toContain('[0000:05:00.0]');
    expect(passedOn.dma.transaction(A, 0x7777, 'r', 0)).toBe(6);

    const conventional = host(behind('pci-bridge'));
    for (let i = 0; i < 12; i++) {
      conventional.dma.transaction(A, 0x7777, 'r', 0);
      serviceFaults(conventional.h, 0);
    }
    expect(conventional.log.lines.find((line) => line.includes('DMA Read'))).toContain('[0000:00:1e.0]');
    expect([A, B].map((device) => conventional.dma.transaction(device, 0x7777, 'r', 0))).toEqual([
      BUS_MASTER_OFF,
      BUS_MASTER_OFF,
    ]);
  });

  it('cannot leave its owner when it has reserved pages (-EOPNOTSUPP), and nothing has changed then', () => {
    const rmrrs = [{ startPfn: 0x3f00, endPfn: 0x3f00, devices: [A] }];
    const { h, guest } = host(behind('pcie-to-pci-bridge'), { rmrrs, heapRanges: [{ start: 0x10, end: 0x3e00 }] });
    const d = guest(1);
    const before = [...h.iommu.contexts];
    for (const to of [d, DOMID_IO] as const) {
      expect(assignDevice(h, to, A, DEV_RDM_RELAXED)).toBe(-errno.EOPNOTSUPP);
      expect([[...h.iommu.contexts], identityMaps(d), h.iommu.ownerOf(1)]).toEqual([before, [], 0]);
    }
    expect(assignDevice(h, d, B, 0)).toBe(0);
    expect(deviceFindings(h)).toEqual([]);
  });

  it('changes all of its entries or none', () => {
    const { h, guest, log } = host(behind('pcie-to-pci-bridge'));
    const d = guest(1);
    const before = [...h.iommu.contexts];
    const alias = h.iommu.requesters.aliases(1)[1] as number;
    failing = once(alias);
    expect(assignDevice(h, d, A, 0)).toBe(-errno.EILSEQ);
    expect([...h.iommu.contexts]).toEqual(before);
    expect(log.lines.at(-1)).toBe('d1: assign (0000:05:01.0) failed (-84)');
  });
});

it('a host bridge is nobody’s but dom0’s', () => {
  const { h, guest } = host([deviceConfig(A, 'host bridge', { pciClass: 0x060000 })]);
  expect(assignDevice(h, guest(1), A, 0)).toBe(-errno.EPERM);
  expect(contextPresent(h.iommu.contexts[0] as number)).toBe(false);
});
