import { describe, expect, it } from 'vitest';
import {
  bootWithDom0,
  deviceConfig,
  GPU,
  ioDomain,
  NIC,
  ownFrames,
  policies,
} from '../../test-support/iommu-fixture.ts';
import { smallConfig } from '../../test-support/p2m-fixture.ts';
import type { HostConfig, IommuUnitConfig } from '../host-config.ts';
import { errno } from '../hypercall/errno.ts';
import { installSeam, stepKind } from '../shared-memory/step.ts';
import { assignDevice, deassignDevice } from './assign.ts';
import { contextType, contextTypeOf } from './context-entry.ts';
import { DmaThread } from './dma.ts';
import { IOMMUF_readable, IOMMUF_writable } from './flags.ts';
import { iommuLegacyMap, iommuLegacyUnmap } from './iommu.ts';

const RW = IOMMUF_readable | IOMMUF_writable;
let silent = false;
/** Called where the device's TLB is about to be flushed. */
let meanwhile: (() => void) | null = null;
installSeam({
  step(kind) {
    if (kind !== stepKind.deviceTlbFlush) return 0;
    meanwhile?.();
    return silent ? errno.ETIMEDOUT : 0;
  },
});

/** d1 has a GPU with ATS, and frames 0x1000…; the network card has none. */
function setup(rest: Partial<HostConfig> = {}, unitRest: Partial<IommuUnitConfig> = {}) {
  silent = false;
  const [unit] = smallConfig().units;
  const { h, log } = bootWithDom0({
    policies: policies({ ats: 'on' }),
    units: [{ ...(unit as IommuUnitConfig), ats: true, ...unitRest }], // the small host has one unit
    devices: [deviceConfig(GPU, 'gpu', { ats: true }), deviceConfig(NIC, 'nic')],
    ...rest,
  });
  const d = ioDomain(h, 1);
  ownFrames(h, d, 0x1000, 1024);
  iommuLegacyMap(h, d, 0, 0x1000, 512, RW);
  expect(assignDevice(h, d, GPU, 0)).toBe(0);
  expect(assignDevice(h, d, NIC, 0)).toBe(0);
  const hits = (): number => h.counters.read('deviceTlb.hit');
  return { h, d, log, dma: new DmaThread(h, 0), hits };
}

describe('a device with ATS', () => {
  it('keeps translations itself and asks the unit no more', () => {
    const { h, dma, hits } = setup();
    expect(contextTypeOf(h.iommu.contexts[0] as number)).toBe(contextType.multiLevelAts);
    for (let i = 0; i < 3; i++) expect(dma.transaction(GPU, 7, 'w', 40 + i)).toBe(0);
    expect([hits(), h.frames.tag[0x1007]]).toEqual([2, 42]);
    for (let i = 0; i < 3; i++) expect(dma.transaction(NIC, 7, 'r', 0)).toBe(0);
    expect([hits(), dma.tag]).toEqual([2, 42]);
  });

  it('has dropped an entry before the frame behind it is given up, whether by page or by domain', () => {
    for (const pages of [1, 3]) {
      const { h, d, dma, log } = setup();
      expect(dma.transaction(GPU, 8, 'w', 1)).toBe(0);
      expect(iommuLegacyUnmap(h, d, 8, pages)).toBe(0);
      expect(h.counters.read('iommu.flushDeviceTlb')).toBeGreaterThan(0);
      expect(dma.transaction(GPU, 8, 'w', 2)).toBe(5);
      expect(dma.transaction(GPU, 12, 'w', 2)).toBe(0);
      expect(log.violations).toEqual([]);
    }
  });

  it('goes on with stale entries when flushes are lost, and the harm is noticed', () => {
    const { h, d, dma, log } = setup({ policies: policies({ ats: 'on', iotlbFlush: 'lost' }) });
    expect(dma.transaction(GPU, 8, 'w', 1)).toBe(0);
    iommuLegacyUnmap(h, d, 8, 1);
    h.frames.fillBlock(0x1008 as never, 1, 2 as never, 1, 1);
    expect(dma.transaction(GPU, 8, 'w', 2)).toBe(0);
    expect(log.violations[0]?.invariant).toBe('noDmaToForeignFrame');
  });

  it('takes nothing along to its next owner', () => {
    const { h, d, dma, log } = setup();
    expect(dma.transaction(GPU, 8, 'w', 1)).toBe(0);
    expect(deassignDevice(h, d, GPU)).toBe(0);
    expect(dma.transaction(GPU, 8, 'w', 2)).toBe(2);
    const other = ioDomain(h, 2);
    ownFrames(h, other, 0x2000, 16);
    iommuLegacyMap(h, other, 8, 0x2008, 1, RW);
    expect(assignDevice(h, other, GPU, 0)).toBe(0);
    expect(dma.transaction(GPU, 8, 'w', 3)).toBe(0);
    expect([h.frames.tag[0x1008], h.frames.tag[0x2008]]).toEqual([1, 3]);
    expect(log.violations).toEqual([]);
  });

  it('is its old owner’s until its own TLB is flushed, though its context has changed', () => {
    const { h, d, dma, log } = setup({ quarantine: 'none' });
    expect(dma.transaction(GPU, 8, 'w', 1)).toBe(0);
    const reasons: number[] = [];
    meanwhile = () => reasons.push(dma.transaction(GPU, 8, 'w', 2));
    expect(deassignDevice(h, d, GPU)).toBe(0);
    meanwhile = null;
    expect([reasons, h.frames.tag[0x1008], log.violations]).toEqual([[0], 2, []]);
    expect(h.iommu.ownerOf(0)).toBe(0);
  });

  it('that does not answer an invalidation is broken, its domain crashed, its entries of no more use', () => {
    const { h, d, dma, log, hits } = setup();
    expect(dma.transaction(GPU, 8, 'w', 1)).toBe(0);
    silent = true;
    iommuLegacyUnmap(h, d, 8, 1);
    expect(log.lines).toContain('dom1: ATS device 0000:00:02.0 flush failed');
    expect([h.iommu.read(0, 'broken'), d.crashed]).toEqual([1, true]);
    expect(dma.transaction(GPU, 8, 'w', 2)).toBe(5);
    expect(hits()).toBe(0);
    expect(deassignDevice(h, d, GPU)).toBe(0);
    expect(assignDevice(h, ioDomain(h, 2), GPU, 0)).toBe(-errno.EBADF);
    expect(log.violations).toEqual([]);
  });
});

it.each([
  ['by policy (Xen’s default)', { policies: policies() }, {}],
  ['by its unit', {}, { ats: false }],
  ['by a unit without invalidation queue', {}, { queuedInvalidation: false }],
] as const)('ATS can be off: %s', (_, rest, unitRest) => {
  const { h, dma, hits } = setup(rest, unitRest);
  expect(contextTypeOf(h.iommu.contexts[0] as number)).toBe(contextType.multiLevel);
  for (let i = 0; i < 3; i++) expect(dma.transaction(GPU, 7, 'w', 1)).toBe(0);
  expect(hits()).toBe(0);
});
