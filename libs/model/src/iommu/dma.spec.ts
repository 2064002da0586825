import fc from 'fast-check';
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
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import type { IommuUnitConfig, ModelPolicies } from '../host-config.ts';
import { p2mLock, p2mUnlock } from '../p2m/p2m.ts';
import { guestPhysmapAddPage } from '../p2m/physmap.ts';
import { p2mSetEntry } from '../p2m/set-entry.ts';
import { p2mAccess, p2mType } from '../p2m/types.ts';
import { assignDevice } from './assign.ts';
import { BUS_MASTER_OFF, DmaThread } from './dma.ts';
import { resetFaults, serviceFaults } from './faults.ts';
import { IOMMUF_readable, IOMMUF_writable } from './flags.ts';
import { iommuLegacyMap, iommuLegacyUnmap, runQueuedFrees } from './iommu.ts';

const RW = IOMMUF_readable | IOMMUF_writable;
const unit = (rest: Partial<IommuUnitConfig> = {}): IommuUnitConfig => ({
  ...(smallConfig().units[0] as IommuUnitConfig), // the small host has one unit
  ...rest,
});

interface Setup {
  readonly h: Host;
  readonly d: Domain;
  readonly dma: DmaThread;
  readonly log: ReturnType<typeof bootWithDom0>['log'];
}

/** d1 has the GPU; frames 0x1000… are its RAM. */
function setup(some: Partial<ModelPolicies> = {}, unitRest: Partial<IommuUnitConfig> = {}): Setup {
  const { h, log } = bootWithDom0({ policies: policies(some), units: [unit(unitRest)] });
  const d = ioDomain(h, 1);
  ownFrames(h, d, 0x1000, 2048);
  expect(assignDevice(h, d, GPU, 0)).toBe(0);
  return { h, d, dma: new DmaThread(h, 0), log };
}

describe('a DMA transaction', () => {
  it('reads and writes the frame that its domain maps, by 4K and by superpage', () => {
    const { h, d, dma, log } = setup();
    iommuLegacyMap(h, d, 5, 0x1005, 1, RW);
    iommuLegacyMap(h, d, 512, 0x1200, 512, RW);
    expect(dma.transaction(GPU, 5, 'w', 77)).toBe(0);
    expect(h.frames.tag[0x1005]).toBe(77);
    expect(dma.transaction(GPU, 512 + 9, 'w', 78)).toBe(0);
    expect(h.frames.tag[0x1209]).toBe(78);
    expect(dma.transaction(GPU, 512 + 9, 'r', 0)).toBe(0);
    expect(dma.tag).toBe(78);
    expect(h.counters.read('iotlb.hit')).toBe(1);
    expect(log.violations).toEqual([]);
  });

  it('faults with reason 5 on a write and 6 on a read of nothing, and prints the lines word for word', () => {
    const { h, dma, log } = setup();
    log.lines.length = 0;
    expect(dma.transaction(GPU, 0x7d0d6, 'w', 1)).toBe(5);
    expect(dma.transaction(GPU, 0x7d0d6, 'r', 1)).toBe(6);
    expect(dma.tag).toBe(-1);
    serviceFaults(h, 0);
    expect(log.lines).toEqual([
      '[VT-D]DMAR:[DMA Write] Request device [0000:00:02.0] fault addr 7d0d6000',
      '[VT-D]DMAR: reason 05 - PTE Write access is not set on iommu:0',
      '[VT-D]DMAR:[DMA Read] Request device [0000:00:02.0] fault addr 7d0d6000',
      '[VT-D]DMAR: reason 06 - PTE Read access is not set on iommu:0',
    ]);
  });

  it('faults with reason 5 on a write to a read-only page, which reads well', () => {
    const { h, d, dma } = setup();
    iommuLegacyMap(h, d, 5, 0x1005, 1, IOMMUF_readable);
    expect(dma.transaction(GPU, 5, 'r', 0)).toBe(0);
    expect(dma.transaction(GPU, 5, 'w', 1)).toBe(5);
    iommuLegacyMap(h, d, 5, 0x1005, 1, RW);
    expect(dma.transaction(GPU, 5, 'w', 1)).toBe(0);
  });

  it('faults with reason 4 beyond the width of a unit with three levels, and translates below it', () => {
    const { h, d, dma } = setup({}, { levels: 3 });
    iommuLegacyMap(h, d, 5, 0x1005, 1, RW);
    expect(dma.transaction(GPU, 5, 'w', 3)).toBe(0);
    expect(h.frames.tag[0x1005]).toBe(3);
    expect(dma.transaction(GPU, 2 ** 27, 'w', 1)).toBe(4);
    // The directory that the unit enters stays when it empties.
    iommuLegacyUnmap(h, d, 5, 1);
    runQueuedFrees(h);
    expect(dma.transaction(GPU, 5, 'w', 1)).toBe(5);
    iommuLegacyMap(h, d, 5, 0x1005, 1, RW);
    expect(dma.transaction(GPU, 5, 'w', 1)).toBe(0);
  });

  it('faults with reason 2 where the device has no context, and 1 where its bus never had one', () => {
    const { h, dma } = setup();
    h.iommu.contexts[0] = 0;
    expect(dma.transaction(GPU, 5, 'r', 1)).toBe(2);
    (h.iommu.units[0] as { roots: Int32Array }).roots[3] = 0;
    expect(dma.transaction(NIC, 5, 'r', 1)).toBe(1);
  });

  it('says why it faulted: what the p2m and the I/O tables held, and who would have acted', () => {
    const { h, d, dma } = setup();
    p2mLock(h, d);
    expect(p2mSetEntry(h, d, 512, INVALID_MFN, 9, p2mType.populateOnDemand, p2mAccess.rwx)).toBe(0);
    p2mUnlock(h, d);
    expect(dma.transaction(GPU, 600, 'w', 1)).toBe(5);
    expect(dma.lastFault).toMatchObject({
      domid: 1,
      p2mType: 'populateOnDemand',
      order: 9,
      mfn: -1,
      iommuEntry: 'absent',
    });
    expect(dma.lastFault?.why).toContain('no CPU of d1 has touched the page');
    guestPhysmapAddPage(h, d, 1, 0x1001 as Mfn, 0);
    expect(dma.transaction(GPU, 1, 'w', 1)).toBe(0);
    iommuLegacyUnmap(h, d, 1, 1);
    expect(dma.transaction(GPU, 1, 'w', 1)).toBe(5);
    expect(dma.lastFault).toMatchObject({ p2mType: 'ramRw', mfn: 0x1001, iommuEntry: 'absent', isRam: true });
    expect(dma.transaction(GPU, 2, 'w', 1)).toBe(5);
    expect(dma.lastFault).toMatchObject({ p2mType: 'mmioDm', isRam: false });
  });

  it('walks the tables of the CPU where they are shared, and what EPT does not allow a device cannot do', () => {
    const { h, d, dma } = setup({ iommuTables: 'shared' });
    expect(d.has('hapPtShare')).toBe(true);
    guestPhysmapAddPage(h, d, 512, 0x1200 as Mfn, 9);
    expect(dma.transaction(GPU, 512 + 3, 'w', 5)).toBe(0);
    expect(h.frames.tag[0x1203]).toBe(5);
    p2mLock(h, d);
    p2mSetEntry(h, d, 512 + 3, 0x1203 as Mfn, 0, p2mType.ramRo, p2mAccess.rwx);
    p2mUnlock(h, d);
    expect(dma.transaction(GPU, 512 + 3, 'r', 0)).toBe(0);
    expect(dma.transaction(GPU, 512 + 3, 'w', 6)).toBe(5);
    expect(dma.lastFault).toMatchObject({ p2mType: 'ramRo', iommuEntry: 'ro', sharedTables: true });
    expect(dma.transaction(GPU, 512 + 4, 'w', 6)).toBe(0);
  });
});

describe('fault storm control', () => {
  it('cuts a device off at its tenth fault in a burst, and a reset lets it go on', () => {
    const { h, dma } = setup();
    let faults = 0;
    for (let i = 0; i < 50; i++) {
      const rc = dma.transaction(GPU, 9, 'w', 1);
      if (rc === BUS_MASTER_OFF) break;
      faults++;
      serviceFaults(h, i);
    }
    expect(faults).toBe(10);
    expect(dma.transaction(GPU, 9, 'w', 1)).toBe(BUS_MASTER_OFF);
    expect(h.counters.read('dma.busMasterOff')).toBe(1);
    resetFaults(h, 0);
    expect(dma.transaction(GPU, 9, 'w', 1)).toBe(5);
  });

  it('never cuts off a device whose faults are more than 10 ms apart', () => {
    const { h, dma } = setup();
    for (let i = 0; i < 50; i++) {
      expect(dma.transaction(GPU, 9, 'w', 1)).toBe(5);
      serviceFaults(h, i * 11);
    }
  });

  it('counts what hardware could not record while its eight registers were full', () => {
    const { h, dma } = setup();
    for (let i = 0; i < 12; i++) dma.transaction(GPU, 9 + i, 'w', 1);
    const logged = serviceFaults(h, 0);
    expect(logged.map((f) => f.dfn)).toEqual([9, 10, 11, 12, 13, 14, 15, 16]);
    expect(h.counters.read('dma.faults')).toBe(12);
    expect(h.counters.read('dma.unlogged')).toBe(4);
    expect(serviceFaults(h, 0)).toEqual([]);
  });
});

describe('a flush', () => {
  const change = fc.record({
    op: fc.constantFrom('map', 'unmap', 'look', 'look'),
    dfn: fc.integer({ min: 0, max: 1600 }),
    pages: fc.constantFrom(1, 2, 64, 512, 700),
    align: fc.boolean(),
    flags: fc.constantFrom(RW, RW, IOMMUF_readable),
    shift: fc.constantFrom(0, 512),
  });
  for (const [name, unitRest] of [
    ['a unit with page-selective invalidation', {}],
    ['a unit without', { pageSelectiveInvalidation: false }],
    ['a unit whose mask reaches 2^3 pages only', { maxAddressMask: 3 }],
    ['a caching-mode unit, which caches absence too', { cachingMode: true }],
  ] as const) {
    it(`asked for by the flags of a change leaves no stale entry: DMA sees what is mapped, always (${name})`, () => {
      fc.assert(
        fc.property(fc.array(change, { minLength: 1, maxLength: 12 }), (changes) => {
          const { h, d, dma, log } = setup({}, unitRest);
          const oracle = new Map<number, { mfn: number; flags: number }>();
          const look = (dfn: number): void => {
            resetFaults(h, 0);
            const page = oracle.get(dfn);
            expect(dma.transaction(GPU, dfn, 'r', 0), `read ${dfn}`).toBe(page ? 0 : 6);
            if (page) expect(dma.tag).toBe(h.frames.tag[page.mfn]);
            const writable = page !== undefined && (page.flags & IOMMUF_writable) !== 0;
            expect(dma.transaction(GPU, dfn, 'w', dfn), `write ${dfn}`).toBe(writable ? 0 : 5);
            if (page && writable) expect(h.frames.tag[page.mfn]).toBe(dfn);
            serviceFaults(h, 0);
          };
          for (const { op, dfn: at, pages, align, flags, shift } of changes) {
            const dfn = align ? at - (at % 512) : at;
            if (op === 'map') iommuLegacyMap(h, d, dfn, 0x1000 + (dfn % 1024) + shift, Math.min(pages, 512), flags);
            else if (op === 'unmap') iommuLegacyUnmap(h, d, dfn, pages);
            if (op === 'map') {
              for (let i = 0; i < Math.min(pages, 512); i++)
                oracle.set(dfn + i, { mfn: 0x1000 + (dfn % 1024) + shift + i, flags });
            } else if (op === 'unmap') for (let i = 0; i < pages; i++) oracle.delete(dfn + i);
            for (const g of [dfn, dfn + 1, dfn + pages - 1, dfn + pages, at, 0, 511, 512, 1023]) look(g);
            runQueuedFrees(h);
          }
          expect(log.violations).toEqual([]);
        }),
        { numRuns: 60 },
      );
    });
  }

  it('is skipped where only absent entries became present, and counted', () => {
    const { h, d } = setup();
    const before = h.counters.read('iommu.flushDomain') + h.counters.read('iommu.flushPage');
    iommuLegacyMap(h, d, 5, 0x1005, 1, RW);
    expect(h.counters.read('iommu.flushDomain') + h.counters.read('iommu.flushPage')).toBe(before);
    expect(h.counters.read('iommu.flushSkipped')).toBe(1);
    iommuLegacyMap(h, d, 5, 0x1006, 1, RW);
    expect(h.counters.read('iommu.flushPage')).toBe(1);
  });

  it('that is lost lets a DMA land in a freed frame, and in a stranger frame later: both are reported', () => {
    const { h, d, dma, log } = setup({ iotlbFlush: 'lost' });
    iommuLegacyMap(h, d, 5, 0x1005, 1, RW);
    dma.transaction(GPU, 5, 'w', 1);
    iommuLegacyUnmap(h, d, 5, 1);
    h.frames.fillBlock(0x1005 as Mfn, 1, -1, 0, 0);
    dma.transaction(GPU, 5, 'w', 2);
    ownFrames(h, h.dom0, 0x1005, 1);
    dma.transaction(GPU, 5, 'w', 3);
    expect(log.violations.map((v) => v.invariant)).toEqual(['noDmaToFreedFrame', 'noDmaToForeignFrame']);
  });

  it('that is deferred happens when the CPU is between calls', () => {
    const { h, d, dma } = setup({ iotlbFlush: 'deferred' });
    iommuLegacyMap(h, d, 5, 0x1005, 1, RW);
    dma.transaction(GPU, 5, 'w', 1);
    iommuLegacyUnmap(h, d, 5, 1);
    expect(dma.transaction(GPU, 5, 'w', 1)).toBe(0);
    runQueuedFrees(h);
    expect(dma.transaction(GPU, 5, 'w', 1)).toBe(5);
  });

  it('allows a frame that was lent: a foreign frame mapped for the domain is no violation', () => {
    const { h, d, dma, log } = setup();
    ownFrames(h, h.dom0, 0x2000, 1);
    iommuLegacyMap(h, d, 9, 0x2000, 1, RW);
    expect(dma.transaction(GPU, 9, 'w', 1)).toBe(0);
    expect(dma.transaction(GPU, 9, 'w', 1)).toBe(0);
    expect(log.violations).toEqual([]);
  });

  it('reaches only the units behind which the domain has a device', () => {
    const { h } = bootWithDom0({
      units: [unit(), unit({ id: 1 })],
      devices: [deviceConfig(GPU, 'gpu'), deviceConfig(NIC, 'nic', { unit: 1 })],
    });
    const d = ioDomain(h, 1);
    ownFrames(h, d, 0x1000, 16);
    iommuLegacyMap(h, d, 5, 0x1005, 1, RW);
    const before = h.counters.read('iommu.flushPage');
    iommuLegacyMap(h, d, 5, 0x1006, 1, RW);
    expect(h.counters.read('iommu.flushPage')).toBe(before);
    expect(assignDevice(h, d, NIC, 0)).toBe(0);
    iommuLegacyMap(h, d, 5, 0x1007, 1, RW);
    expect(h.counters.read('iommu.flushPage')).toBe(before + 1);
  });
});
