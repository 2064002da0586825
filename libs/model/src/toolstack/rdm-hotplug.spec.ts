// A device with reserved memory and a guest that runs already, as libxl and Xen settle it together.
import { beforeEach, describe, expect, it } from 'vitest';
import { RealHost } from '../../test-support/real-host.ts';
import { built, config, finish, type TestPorts, toolstackOn } from '../../test-support/toolstack-fixture.ts';
import { sbdf } from '../frames/addresses.ts';
import { type DeviceConfig, defaultPolicies, tablePagesFor } from '../host-config.ts';
import { checkInvariants } from '../invariants/check.ts';
import { identityMaps } from '../iommu/identity-mapping.ts';
import { iommuLookupPage } from '../iommu/iommu.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { p2mTypeName } from '../p2m/types.ts';
import type { BuiltDomain } from './built-domain.ts';
import { overlayReserved } from './device-model-calls.ts';
import { createDomain } from './domain-builder.ts';
import { pciAttach, pciDetach } from './domain-ops.ts';
import { makeAssignable } from './pci-assignment.ts';
import { type PciDevice, pciDeviceDefaults } from './pci-spec.ts';

const FRAMES = 768 * 256;
/** 128 MiB: above the RAM of a guest of 64 MiB, under that of one of 256. */
const REGION = 0x8000;
const PAGES = 4;
const EHCI_A = sbdf(0, 0, 0x1a, 0);
const EHCI_B = sbdf(0, 0, 0x1d, 0);
const XHCI = sbdf(0, 0, 0x14, 0);
const ALONE = 0xa000;

const usb = (address: number): DeviceConfig => ({
  sbdf: address as DeviceConfig['sbdf'],
  name: 'usb',
  vendor: 0x8086,
  device: 0x8c26,
  pciClass: 0x0c0320,
  unit: 0,
  upstreamBridge: null,
  bars: [{ index: 0, size: 4096, kind: 'mem32', hostAddr: 0xf7d3b000 }],
});

const spec = (dev: number, rdmPolicy: PciDevice['rdmPolicy'] = 'invalid'): PciDevice => ({
  ...pciDeviceDefaults,
  dev,
  vfuncMask: 1,
  rdmPolicy,
});

/** A region that 00:1a.0 and 00:1d.0 share, and one that is 00:14.0's alone. */
function boot(tables: 'shared' | 'separate'): { host: RealHost; ports: TestPorts } {
  const rmrrs = [
    { startPfn: REGION, endPfn: REGION + PAGES - 1, devices: [EHCI_A, EHCI_B] },
    { startPfn: ALONE, endPfn: ALONE + PAGES - 1, devices: [XHCI] },
  ];
  const heapRanges = [
    { start: 0x10, end: REGION },
    { start: REGION + PAGES, end: ALONE },
    { start: ALONE + PAGES, end: FRAMES },
  ];
  const devices = [usb(EHCI_A), usb(EHCI_B), usb(XHCI)];
  const policies = { ...defaultPolicies, iommuTables: tables };
  const host = new RealHost(
    { frames: FRAMES, tablePages: tablePagesFor(FRAMES), heapRanges, rmrrs, devices, policies },
    128,
  );
  const ports = toolstackOn(host);
  for (const { sbdf: address } of devices) expect(makeAssignable(ports, address).ok).toBe(true);
  return { host, ports };
}

describe.each(['shared', 'separate'] as const)('hotplug with %s tables', (tables) => {
  let host: RealHost;
  let ports: TestPorts;
  beforeEach(() => {
    ({ host, ports } = boot(tables));
  });
  const create = (more: string): BuiltDomain =>
    built(
      finish(createDomain(ports, config(`name = "g"\ntype = "hvm"\nvcpus = 1\npassthrough = "enabled"\n${more}\n`))),
    );
  const entry = ({ domid }: BuiltDomain, gfn: number): string => {
    const d = host.h.domain(domid);
    const leaf = new Leaf();
    if (d) peekEntry(host.h, d, gfn, leaf);
    return `${p2mTypeName(leaf.type)}${leaf.mfn === gfn ? ' 1:1' : ''}`;
  };
  const counts = ({ domid }: BuiltDomain): number[] => {
    const d = host.h.domain(domid);
    return d ? identityMaps(d).map(({ count }) => count) : [];
  };
  const expectSound = (): void => expect(checkInvariants(host.h)).toEqual([]);

  it('free: the identity map is made, and detach takes away exactly that', () => {
    const domain = create('memory = 64');
    const attached = pciAttach(ports, domain, spec(0x14));
    if (!attached.ok) throw new Error(attached.message);
    expect([entry(domain, ALONE), entry(domain, ALONE + PAGES)]).toEqual(['mmioDirect 1:1', 'mmioDm']);
    expectSound();
    expect(pciDetach(ports, attached.domain, XHCI).ok).toBe(true);
    expect([entry(domain, ALONE), counts(domain)]).toEqual(['mmioDm', []]);
    expectSound();
  });

  it('already mapped: a second device of the region is counted, and the entries go with the last', () => {
    const domain = create('memory = 64');
    const first = pciAttach(ports, domain, spec(0x1a, 'relaxed'));
    if (!first.ok) throw new Error(first.message);
    const second = pciAttach(ports, first.domain, spec(0x1d, 'relaxed'));
    if (!second.ok) throw new Error(second.message);
    expect(counts(domain)).toEqual([2]);
    const one = pciDetach(ports, second.domain, EHCI_A);
    if (!one.ok) throw new Error(one.message);
    expect([entry(domain, REGION), counts(domain)]).toEqual(['mmioDirect 1:1', [1]]);
    expectSound();
    expect(pciDetach(ports, one.domain, EHCI_B).ok).toBe(true);
    expect([entry(domain, REGION), counts(domain)]).toEqual(['mmioDm', []]);
    expectSound();
  });

  it('occupied by RAM, strict: refused in libxl’s and Xen’s words, and the guest is as it was', () => {
    const domain = create('memory = 256');
    const result = pciAttach(ports, domain, spec(0x14));
    expect(result).toMatchObject({ ok: false, message: 'xc_assign_device failed: Device or resource busy' });
    expect(host.log.lines.slice(-3)).toEqual([
      expect.stringMatching(/^Cannot setup identity map d1:a000, gfn already mapped to [0-9a-f]+\.$/),
      '[VT-D]d1: cannot map reserved region [a000000,a003fff]: -16',
      'd1: assign (0000:00:14.0) failed (-16)',
    ]);
    expect([entry(domain, ALONE), counts(domain)]).toEqual(['ramRw', []]);
    expectSound();
  });

  it('occupied by RAM, relaxed: the device comes, the RAM stays, and detach leaves it alone', () => {
    const domain = create('memory = 256');
    const attached = pciAttach(ports, domain, spec(0x14, 'relaxed'));
    if (!attached.ok) throw new Error(attached.message);
    expect(entry(domain, ALONE)).toBe('ramRw');
    expect(pciDetach(ports, attached.domain, XHCI).ok).toBe(true);
    expect([entry(domain, ALONE), counts(domain)]).toEqual(['ramRw', []]);
    expectSound();
  });

  it('a region that other devices share is refused under strict, whoever gets it', () => {
    const domain = create('memory = 64');
    expect(pciAttach(ports, domain, spec(0x1a))).toMatchObject({
      ok: false,
      message: 'xc_assign_device failed: Operation not permitted',
    });
    expect(host.log.lines).toContain(
      "[VT-D] It's disallowed to assign 0000:00:1a.0 with shared RMRR at 8000000 for d1.",
    );
  });

  it('one device of a region to each of two guests, relaxed: a frame that both can write is noticed', () => {
    const [a, b] = [create('memory = 64'), create('memory = 64')];
    expect(pciAttach(ports, a, spec(0x1a, 'relaxed')).ok).toBe(true);
    expectSound();
    expect(pciAttach(ports, b, spec(0x1d, 'relaxed')).ok).toBe(true);
    expect(checkInvariants(host.h).map(({ invariant }) => invariant)).toEqual(['noFrameWritableByTwoGuests']);
  });

  it('reserved ahead: strategy=host keeps RAM off all regions of the host, and any device can come', () => {
    const domain = create('memory = 256\nrdm = "strategy=host,policy=relaxed"\nrdm_mem_boundary = 64');
    const reserved = (domain.firmwareE820 ?? []).filter(({ type }) => type === 2).map(({ addr }) => addr);
    expect(reserved).toEqual(expect.arrayContaining([REGION * 4096, ALONE * 4096]));
    const attached = pciAttach(ports, domain, spec(0x14));
    expect(attached).toMatchObject({ ok: true });
    const d = host.h.domain(domain.domid);
    expect(entry(domain, ALONE)).toBe('mmioDirect 1:1');
    if (tables === 'separate' && d) expect(iommuLookupPage(host.h, d, ALONE).mfn).toBe(ALONE);
    expectSound();
  });

  it('the device model cannot put a page there: refused; before a device came it can, and relaxed lets that stay', () => {
    const first = create('memory = 64');
    const attached = pciAttach(ports, first, spec(0x14));
    expect(attached.ok).toBe(true);
    expect(overlayReserved(ports, first.domid, XHCI, { page: 0x1000 })).toMatchObject({
      ok: false,
      message: 'device model of domain 1: cannot move page 0x1000 to 0xa000: Operation not permitted',
    });
    expect(entry(first, ALONE)).toBe('mmioDirect 1:1');
    const second = create('memory = 64');
    expect(overlayReserved(ports, second.domid, EHCI_A, { page: 0x1000 }).ok).toBe(true);
    expect(pciAttach(ports, second, spec(0x1a, 'relaxed')).ok).toBe(true);
    expect(entry(second, REGION)).toBe('ramRw');
    expectSound();
  });

  it('the device model that maps a window there ends the guest, and the entry stays', () => {
    const domain = create('memory = 64');
    expect(pciAttach(ports, domain, spec(0x14)).ok).toBe(true);
    expect(overlayReserved(ports, domain.domid, XHCI, { bar: 0 })).toMatchObject({ ok: false });
    expect([host.h.domain(domain.domid)?.crashed, entry(domain, ALONE)]).toEqual([true, 'mmioDirect 1:1']);
  });
});
