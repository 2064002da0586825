import { describe, expect, it } from 'vitest';
import { bareDomain, bootSmall } from '../../test-support/p2m-fixture.ts';
import { domainFeature } from '../domain/domain-record.ts';
import { allocDomheap } from '../domain/memory.ts';
import type { Mfn } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import { deviceRights } from './device-view.ts';
import { AccessOutcome, accessResult, guestAccess } from './guest-access.ts';
import { leaves } from './lifecycle.ts';
import { memoryTypeOf } from './memory-type.ts';
import { mapMmioRegions } from './mmio.ts';
import { p2mLock, p2mUnlock } from './p2m.ts';
import { Leaf, peekEntry } from './peek-entry.ts';
import { guestPhysmapAddPage } from './physmap.ts';
import { p2mSetEntry } from './set-entry.ts';
import { p2mAccess, p2mType } from './types.ts';

const BAR = 0xf_0000;
/** An MSI-X table in the second 2M of the BAR. */
const withMsix = { mmioRoRanges: [{ start: BAR + 512 + 16, end: BAR + 512 + 17 }] };

describe('memory types', () => {
  it('follow Xen’s rule: write-back whatever the guest says unless it reaches devices, MMIO uncached, lent and Xen’s own pages write-back', () => {
    const { h } = bootSmall(withMsix);
    const d = bareDomain(h, 1);
    const { ramRw, mmioDirect, mapForeign } = p2mType;
    const m = allocDomheap(h, d, 9) as Mfn;
    expect(memoryTypeOf(h, d, m, 9, ramRw)).toBe('WB!');
    expect(memoryTypeOf(h, d, BAR as Mfn, 0, mmioDirect)).toBe('UC');
    d.r.features |= domainFeature.iommu;
    expect(memoryTypeOf(h, d, m, 9, ramRw)).toBe('WB');
    expect(memoryTypeOf(h, d, m, 0, mapForeign)).toBe('WB!');
    expect(memoryTypeOf(h, d, (BAR + 528) as Mfn, 0, mmioDirect)).toBe('UC!');
    expect(memoryTypeOf(h, d, (BAR + 512) as Mfn, 9, mmioDirect)).toBe(null);
    h.frames.setFlag((m + 3) as Mfn, frameFlag.special);
    expect(memoryTypeOf(h, d, (m + 3) as Mfn, 0, ramRw)).toBe('WB!');
    expect(memoryTypeOf(h, d, m, 9, ramRw)).toBe(null);
  });

  it('a superpage with two of them is split by the first touch, and only then', () => {
    const { h, log } = bootSmall();
    const d = bareDomain(h, 1);
    d.r.features |= domainFeature.iommu;
    const m = allocDomheap(h, d, 9) as Mfn;
    h.frames.setFlag((m + 3) as Mfn, frameFlag.special);
    expect(guestPhysmapAddPage(h, d, 512, m, 9)).toBe(0);
    const leaf = new Leaf();
    expect([peekEntry(h, d, 520, leaf), leaf.order, h.counters.read('p2m.split')]).toEqual([m + 8, 9, 0]);
    const out = new AccessOutcome();
    expect(guestAccess(h, d, 520, 0x77, out)).toBe(accessResult.ok);
    expect([peekEntry(h, d, 520, leaf), leaf.order, h.counters.read('p2m.split')]).toEqual([m + 8, 0, 1]);
    expect(h.counters.read('p2m.misconfig')).toBe(1);
    expect(log.lines).toEqual([]);
  });

  it('I/O memory that only Xen may write is mapped by 4K around it, read-only for CPU and device; a write to it is dropped', () => {
    const { h } = bootSmall(withMsix);
    const d = bareDomain(h, 1);
    let done = 0;
    for (let rc = 1; rc > 0; done += rc) rc = mapMmioRegions(h, d, 1024 + done, 1536 - done, BAR + done);
    const found = [...leaves(h, d)];
    expect(found.map(({ level }) => level).filter((level) => level === 1).length).toBe(2);
    const readOnly = found.filter(({ slot }) => deviceRights(h, d, slot) === 1).map(({ gfn }) => gfn);
    expect(readOnly).toEqual([1024 + 528]);
    const out = new AccessOutcome();
    expect(guestAccess(h, d, 1024 + 528, null, out)).toBe(accessResult.mmio);
    expect(guestAccess(h, d, 1024 + 528, 1, out)).toBe(accessResult.discarded);
    expect(guestAccess(h, d, 1024 + 529, 1, out)).toBe(accessResult.mmio);
  });
});

describe('an access that nobody answers for', () => {
  it('ends the domain, and the console says which access met which entry', () => {
    const { h, log } = bootSmall();
    const d = bareDomain(h, 1);
    p2mLock(h, d);
    p2mSetEntry(h, d, 0xf1008, 0xf1008 as Mfn, 0, p2mType.mmioDirect, p2mAccess.rx);
    p2mUnlock(h, d);
    h.current = d;
    expect(guestAccess(h, d, 0xf1008, null, new AccessOutcome())).toBe(accessResult.mmio);
    expect(guestAccess(h, d, 0xf1008, 1, new AccessOutcome())).toBe(accessResult.crashed);
    expect(log.lines).toEqual([
      'd1v0 EPT violation 0x1aa (-w-/r-x) gpa 0x000000f1008000 mfn 0xf1008 type 5',
      'Domain 1 (vcpu#0) crashed on cpu#0:',
    ]);
  });
});
