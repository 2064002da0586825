import { describe, expect, it } from 'vitest';
import { bootTestbed, expectSound, hypercall, makeGuest, type Testbed } from '../../test-support/hypercall-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { defaultPolicies } from '../host-config.ts';
import { XENMEMF_populate_on_demand } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { p2mType } from '../p2m/types.ts';
import { markPopulateOnDemand } from './mark.ts';

/** A guest of `entries` PoD pages from gfn 0 and a cache of `cache` pages. */
function podGuest(
  bed: Testbed,
  entries: number,
  cache: number,
  spec: { poolPages?: number; iommu?: boolean } = {},
): Domain {
  const d = makeGuest(bed, { maxPages: entries + 1024, ...spec });
  hypercall(bed, bed.dom0, { op: 'set_pod_target', domid: d.domid, targetPages: cache });
  const order = entries % 512 === 0 ? 9 : 0;
  const answer = hypercall(bed, bed.dom0, {
    op: 'populate_physmap',
    domid: d.domid,
    order,
    memFlags: XENMEMF_populate_on_demand,
    extents: { start: 0, count: entries / 2 ** order },
  });
  expect(answer.rc).toBe(entries / 2 ** order);
  return d;
}

const touch = (bed: Testbed, d: Domain, start: number, count: number) =>
  hypercall(bed, d, { op: 'touch', frames: { start, count } });
const store = (bed: Testbed, d: Domain, start: number, count: number, tag = 7) =>
  hypercall(bed, d, { op: 'store', frames: { start, count }, tag });
const decrease = (bed: Testbed, d: Domain, start: number, count = 1, order = 0) =>
  hypercall(bed, d, { op: 'decrease_reservation', domid: d.domid, order, extents: { start, count } });
const typeOf = (bed: Testbed, d: Domain, gfn: number): number => {
  const leaf = new Leaf();
  peekEntry(bed.h, d, gfn, leaf);
  return leaf.type;
};

describe('demand populate', () => {
  it('gives a touched 2M entry one 2M chunk of zero pages and lowers the debt by nothing', () => {
    const bed = bootTestbed();
    const d = podGuest(bed, 2048, 1024);
    expect(d.r.totPages).toBe(1024);
    expect(touch(bed, d, 700, 1)).toMatchObject({ rc: 0, done: 1, faulted: 0 });
    expect([d.r.podEntryCount, d.r.podCount, d.r.totPages]).toEqual([1536, 512, 1024]);
    expect(hypercall(bed, d, { op: 'load', frames: { start: 512, count: 2 } }).tags).toEqual([0, 0]);
    expectSound(bed);
  });

  it('cuts a 2M entry to 4K when the cache has only single frames', () => {
    const bed = bootTestbed();
    const d = podGuest(bed, 1024, 100);
    touch(bed, d, 5, 1);
    expect([d.r.podEntryCount, d.r.podCount]).toEqual([1023, 99]);
    expect(typeOf(bed, d, 6)).toBe(p2mType.populateOnDemand);
    expectSound(bed);
  });

  it('crashes the guest with Xen’s line, once, when no page can be found', () => {
    const bed = bootTestbed();
    const d = podGuest(bed, 1024, 4);
    expect(store(bed, d, 0, 4).faulted).toBe(0);
    expect(store(bed, d, 4, 1).rc).toBe(-errno.EFAULT);
    const line = `p2m_pod_demand_populate: Dom${d.domid} out of PoD memory! (tot=4 ents=1020 dom${d.domid})`;
    expect(bed.log.lines.filter((l) => l === line)).toHaveLength(1);
    expect(d.crashed).toBe(true);
    expectSound(bed);
  });

  it('reclaims pages that were populated and are still zero before it gives up', () => {
    const bed = bootTestbed();
    const d = podGuest(bed, 1024, 4);
    for (let gfn = 0; gfn < 64; gfn++) expect(touch(bed, d, gfn, 1).rc).toBe(0);
    expect(d.crashed).toBe(false);
    expect(d.r.podEntryCount - d.r.podCount).toBe(1020);
    expectSound(bed);
  });

  it('sweeps downwards from the highest populated gfn when the ring of recent ones has nothing', () => {
    const bed = bootTestbed();
    const d = podGuest(bed, 4096, 512);
    touch(bed, d, 1535, 1);
    expect(d.r.podCount).toBe(0);
    d.r.podMrp.fill(0);
    store(bed, d, 1024, 100);
    expect(touch(bed, d, 3000, 1).rc).toBe(0);
    expect(bed.h.counters.read('pod.sweepPages')).toBeGreaterThan(0);
    expect(d.crashed).toBe(false);
    expectSound(bed);
  });

  it('fails without a loop and without a crash when the table memory for a split is gone (XSA-246)', () => {
    const bed = bootTestbed();
    const d = podGuest(bed, 1024, 4);
    hypercall(bed, bed.dom0, { op: 'set_paging_mempool_size', domid: d.domid, bytes: 3 * 4096 });
    expect(touch(bed, d, 9, 1)).toMatchObject({ rc: 0, faulted: 1 });
    expect([d.crashed, d.r.podEntryCount, d.r.podCount]).toEqual([false, 1024, 4]);
    expectSound(bed);
  });
});

describe('marking', () => {
  it('cuts a misaligned request into aligned chunks, and counts what it replaces once (XSA-388)', () => {
    const bed = bootTestbed();
    const d = podGuest(bed, 512, 0);
    expect(markPopulateOnDemand(bed.h, d, 256, 9)).toBe(0);
    expect(d.r.podEntryCount).toBe(768);
    expectSound(bed);
  });

  it('refuses mapped memory with EBUSY and leaves everything as it was', () => {
    const bed = bootTestbed();
    const d = podGuest(bed, 512, 512);
    touch(bed, d, 0, 1);
    expect(markPopulateOnDemand(bed.h, d, 256, 0)).toBe(-errno.EBUSY);
    expect(d.r.podEntryCount).toBe(0);
    expectSound(bed);
  });

  it('crashes the domain when a range fails half-way for want of table memory', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed);
    hypercall(bed, bed.dom0, { op: 'set_paging_mempool_size', domid: d.domid, bytes: 2 * 4096 });
    expect(markPopulateOnDemand(bed.h, d, 2, 1)).toBe(-errno.ENOMEM);
    expect(d.crashed).toBe(true);
  });

  it('is refused by a device in the domain, except under the historical policy', () => {
    for (const [policy, rc] of [
      ['refuse', -errno.ENOTEMPTY],
      ['populate-first', -errno.ENOTEMPTY],
      ['allow', 0],
    ] as const) {
      const bed = bootTestbed({ policies: { ...defaultPolicies, podWithPassthrough: policy } });
      const d = makeGuest(bed, { iommu: true });
      const sbdf = bed.h.config.devices[0]?.sbdf ?? 0;
      expect(hypercall(bed, bed.dom0, { op: 'assign_device', domid: d.domid, sbdf, flags: 0 }).rc).toBe(0);
      expect(markPopulateOnDemand(bed.h, d, 0, 9)).toBe(rc);
      expect(hypercall(bed, bed.dom0, { op: 'set_pod_target', domid: d.domid, targetPages: 16 }).rc).toBe(rc);
    }
  });
});

describe('decrease_reservation in a PoD domain', () => {
  it('drops entries without freeing a frame, and gives surplus cache back', () => {
    const bed = bootTestbed();
    const d = podGuest(bed, 1024, 1024);
    expect(decrease(bed, d, 0, 1, 9).rc).toBe(1);
    expect([d.r.podEntryCount, d.r.podCount, d.r.totPages]).toEqual([512, 512, 512]);
    expectSound(bed);
  });

  it('steals given-up RAM for the cache while in debt, so that tot_pages stays', () => {
    const bed = bootTestbed();
    const d = podGuest(bed, 2048, 600);
    store(bed, d, 0, 88);
    expect([d.r.podEntryCount, d.r.podCount]).toEqual([1536, 88]);
    expect(decrease(bed, d, 3, 40).rc).toBe(40);
    expect([d.r.totPages, d.r.podCount]).toEqual([600, 128]);
    expect(typeOf(bed, d, 3)).toBe(p2mType.mmioDm);
    expectSound(bed);
  });

  it('takes the whole 2M around a given-up page when all of it is zero', () => {
    const bed = bootTestbed();
    const d = podGuest(bed, 2048, 512);
    touch(bed, d, 0, 1);
    expect(decrease(bed, d, 17).rc).toBe(1);
    expect([d.r.podEntryCount, d.r.podCount, d.r.totPages]).toEqual([2047, 512, 512]);
    expect(bed.h.counters.read('pod.reclaimSuper')).toBe(1);
    expectSound(bed);
  });

  it('never steals a page of Xen’s that the guest shows (XSA-507)', () => {
    const bed = bootTestbed();
    const d = podGuest(bed, 1024, 4);
    expect(
      hypercall(bed, d, { op: 'add_to_physmap', domid: d.domid, space: 0, idx: 0, gpfn: 0x5000, size: 0 }).rc,
    ).toBe(0);
    expect(decrease(bed, d, 0x5000).rc).toBe(1);
    expect(d.r.podCount).toBe(4);
    expect(typeOf(bed, d, 0x5000)).toBe(p2mType.mmioDm);
    expectSound(bed);
  });

  it('handles a mixed range: entries vanish, the rest is removed, and the extent counts as done', () => {
    const bed = bootTestbed();
    const d = podGuest(bed, 512, 20);
    store(bed, d, 0, 16);
    expect(decrease(bed, d, 8, 1, 4).rc).toBe(1);
    for (const gfn of [8, 15, 16, 23]) expect(typeOf(bed, d, gfn)).toBe(p2mType.mmioDm);
    expectSound(bed);
  });
});

describe('zero check', () => {
  it('does not take a page that another domain has mapped', () => {
    const bed = bootTestbed();
    const d = podGuest(bed, 1024, 4);
    touch(bed, d, 0, 4);
    const mapped = hypercall(bed, bed.dom0, {
      op: 'add_to_physmap_batch',
      domid: 0,
      space: 4,
      foreignDomid: d.domid,
      idxs: { start: 0, count: 4 },
      gpfns: { start: 0x100, count: 4 },
    });
    expect(mapped.errs).toEqual([0, 0, 0, 0]);
    expect(touch(bed, d, 5, 1).rc).toBe(-errno.EFAULT);
    expect(d.crashed).toBe(true);
    expectSound(bed);
  });
});

describe('populate-first', () => {
  const withPolicy = (): Testbed =>
    bootTestbed({ policies: { ...defaultPolicies, podWithPassthrough: 'populate-first' } });
  const assign = (bed: Testbed, d: Domain) =>
    hypercall(bed, bed.dom0, {
      op: 'assign_device',
      domid: d.domid,
      sbdf: bed.h.config.devices[0]?.sbdf ?? 0,
      flags: 0,
    });

  it('fills every entry before the device arrives, in slices', () => {
    const bed = withPolicy();
    const d = podGuest(bed, 2048, 600, { iommu: true });
    store(bed, d, 3, 2);
    bed.preempt = () => true;
    expect(assign(bed, d).rc).toBe(0);
    expect(bed.slices).toBeGreaterThan(3);
    expect([d.r.podEntryCount, d.r.podCount, d.r.totPages, d.r.deviceCount]).toEqual([0, 0, 2048, 1]);
    expect(hypercall(bed, d, { op: 'load', frames: { start: 2, count: 3 } }).tags).toEqual([0, 7, 7]);
    expectSound(bed);
  });

  it('answers ENOMEM and assigns nothing when the host is too small', () => {
    const bed = withPolicy();
    const d = podGuest(bed, 64 * 512, 600, { iommu: true });
    hypercall(bed, bed.dom0, { op: 'increase_reservation', domid: 0, order: 9, count: 70 });
    expect(assign(bed, d).rc).toBe(-errno.ENOMEM);
    expect([d.r.podCount, d.r.deviceCount]).toEqual([600, 0]);
    expectSound(bed);
  });

  it('today’s policy refuses with EXDEV instead', () => {
    const bed = bootTestbed();
    const d = podGuest(bed, 1024, 512, { iommu: true });
    expect(assign(bed, d).rc).toBe(-errno.EXDEV);
    expectSound(bed);
  });
});
