import { describe, expect, it } from 'vitest';
import { recorder, smallConfig } from '../../test-support/p2m-fixture.ts';
import { createHost, Host, mainCpu } from '../host.ts';
import { defaultPolicies, type HostConfig, tablePagesFor } from '../host-config.ts';
import type { MemoryMapEntry } from '../hypercall/calls.ts';
import { checkInvariants } from '../invariants/check.ts';
import { walkTables } from '../iommu/walk.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { p2mType } from '../p2m/types.ts';
import { bootHost } from './boot-host.ts';

const MIB = 2 ** 20;

function boot(overrides: Partial<HostConfig>, memoryMb: number) {
  const config = smallConfig(overrides);
  const log = recorder();
  const h = new Host(createHost(config), mainCpu(config), log);
  bootHost(h, { memoryPages: memoryMb * 256, vcpus: 2 });
  return { h, log, d: h.dom0 };
}

/** 256 MiB of RAM in two parts around a reserved region that holds an RMRR. */
const split: Partial<HostConfig> = {
  frames: 0x10000,
  heapRanges: [
    { start: 0x100, end: 0x4000 },
    { start: 0x5000, end: 0x10000 },
  ],
  memoryMap: [
    { addr: 0, size: 64 * MIB, type: 1 },
    { addr: 64 * MIB, size: 16 * MIB, type: 2 },
    { addr: 80 * MIB, size: 176 * MIB, type: 1 },
  ],
  rmrrs: [{ startPfn: 0x4100, endPfn: 0x410f, devices: [0x10 as never] }],
  tablePages: tablePagesFor(0x10000),
};

/** Leaf sizes of dom0's RAM. */
function orders(h: Host, from: number, to: number): Map<number, number> {
  const found = new Map<number, number>();
  const leaf = new Leaf();
  for (let g = from; g < to; g += 2 ** leaf.order) {
    peekEntry(h, h.dom0, g, leaf);
    if (leaf.type === p2mType.ramRw) found.set(leaf.order, (found.get(leaf.order) ?? 0) + 1);
  }
  return found;
}

describe('a host that boots', () => {
  it('gives dom0 its memory where the host has RAM, in 2M pages, and every invariant holds', () => {
    const { h, d } = boot(split, 128);
    expect(d.r.totPages).toBe(128 * 256);
    expect(d.r.pauseCount).toBe(0);
    const found = orders(h, 0, 0x10000);
    expect(found.get(9)).toBeGreaterThanOrEqual(60);
    const leaf = new Leaf();
    peekEntry(h, d, 0x4800, leaf);
    expect(leaf.type).toBe(p2mType.mmioDm);
    expect(checkInvariants(h)).toEqual([]);
  });

  it('maps an RMRR of a device of dom0 by identity, for CPU and device alike', () => {
    const { h, d } = boot({ ...split, policies: { ...defaultPolicies, iommuTables: 'separate' } }, 64);
    const leaf = new Leaf();
    expect(peekEntry(h, d, 0x4105, leaf)).toBe(0x4105);
    expect(leaf.type).toBe(p2mType.mmioDirect);
    const found = walkTables(h.tables.slots, d.r.iommuRoot, 0x4105, 2, 4);
    expect(Math.floor(found / 65536)).toBe(0x4105);
  });

  it('mirrors dom0 into I/O tables of its own when EPT and IOMMU cannot share', () => {
    const { h, d } = boot({ ...split, policies: { ...defaultPolicies, iommuTables: 'separate' } }, 64);
    const leaf = new Leaf();
    const m = peekEntry(h, d, 0x234, leaf);
    const found = walkTables(h.tables.slots, d.r.iommuRoot, 0x234, 2, 4);
    expect(Math.floor(found / 65536)).toBe(m);
  });

  it('says on its console what Xen says', () => {
    const { log } = boot(split, 64);
    expect(log.lines).toContain('[VT-D]found ACPI_DMAR_RMRR:');
    expect(log.lines).toContain('[VT-D] endpoint: 0000:00:02.0');
    expect(log.lines).toContain('[VT-D]  RMRR: [04100000,0410ffff]');
    expect(log.lines).toContain('Initial low memory virq threshold set at 0x4000 pages.');
  });

  it('panics with a sentence when dom0 wants more memory than there is', () => {
    expect(() => boot(split, 1024)).toThrow(/dom0 wants 262144 pages/);
  });

  it('boots 1 TiB of RAM touching only the host memory it uses', () => {
    const frames = 2 ** 28;
    const memoryMap: MemoryMapEntry[] = [
      { addr: 0, size: 2 ** 31, type: 1 },
      { addr: 2 ** 32, size: 2 ** 40 - 2 ** 32, type: 1 },
    ];
    const heapRanges = [
      { start: 0x100, end: 2 ** 19 },
      { start: 2 ** 20, end: frames },
    ];
    const before = process.memoryUsage().rss;
    const { d } = boot({ frames, memoryMap, heapRanges, tablePages: tablePagesFor(frames) }, 4096);
    expect(d.r.totPages).toBe(4096 * 256);
    expect((process.memoryUsage().rss - before) / MIB).toBeLessThan(400);
  });
});
