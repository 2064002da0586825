import { describe, expect, it } from 'vitest';
import { bootTestbed, expectSound, hypercall, makeGuest, type Testbed } from '../../test-support/hypercall-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { type Extents, XENMEMF_populate_on_demand } from './calls.ts';

const populate = (bed: Testbed, from: Domain, domid: number, extents: Extents, order = 0, memFlags = 0): number =>
  hypercall(bed, from, { op: 'populate_physmap', domid, order, memFlags, extents }).rc;
const decrease = (bed: Testbed, from: Domain, domid: number, extents: Extents, order = 0): number =>
  hypercall(bed, from, { op: 'decrease_reservation', domid, order, extents }).rc;
const increase = (bed: Testbed, from: Domain, domid: number, count: number, order = 0): number =>
  hypercall(bed, from, { op: 'increase_reservation', domid, order, count }).rc;

const SELF = 0x7ff0;

describe('populate_physmap', () => {
  it('answers the extents done and maps zeroed RAM there, M2P included', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed, { iommu: true });
    expect(populate(bed, bed.dom0, d.domid, { start: 0, count: 4 }, 9)).toBe(4);
    expect(populate(bed, d, SELF, { frames: Uint32Array.of(0x3000, 0x3002, 0x3007) })).toBe(3);
    expect(d.r.totPages).toBe(2051);
    const leaf = new Leaf();
    expect(bed.h.frames.gfnOf(peekEntry(bed.h, d, 0x3002, leaf))).toBe(0x3002);
    expectSound(bed);
  });

  it('stops without an error number at max_pages, and Xen says how far over it would have gone', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed, { maxPages: 100 });
    expect(populate(bed, bed.dom0, d.domid, { start: 0, count: 128 })).toBe(100);
    expect(bed.log.lines).toContain(`Over-allocation for d${d.domid}: 101 > 100`);
    expectSound(bed);
  });

  it('stops when the host is out of memory', () => {
    const bed = bootTestbed({ frames: 4096 });
    const d = makeGuest(bed);
    const done = populate(bed, bed.dom0, d.domid, { start: 0, count: 8192 });
    expect(done).toBeLessThan(4096);
    expect([bed.h.heap.freePages, d.r.totPages]).toEqual([0, done]);
    expectSound(bed);
  });

  it('answers 0 for whatever is wrong with the request itself', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed);
    const other = makeGuest(bed);
    const extents = { start: 0, count: 2 };
    expect(populate(bed, d, other.domid, extents)).toBe(0); // another domain's memory
    expect(populate(bed, bed.dom0, 999, extents)).toBe(0); // no such domain
    expect(populate(bed, d, SELF, extents, 10)).toBe(0); // order above a guest's limit
    expect(populate(bed, d, SELF, extents, 9, XENMEMF_populate_on_demand)).toBe(0); // PoD for itself
    expect(populate(bed, bed.dom0, d.domid, { start: -1, count: 2 })).toBe(0);
    expect(populate(bed, bed.dom0, d.domid, { start: 0.5, count: 2 })).toBe(0);
    expect(populate(bed, bed.dom0, d.domid, { start: 2 ** 36, count: 1 })).toBe(0);
    expect(populate(bed, bed.dom0, d.domid, { start: 0, count: 2 ** 27 })).toBe(0);
    expect(populate(bed, bed.dom0, d.domid, { frames: [2, Number.NaN] })).toBe(1);
    const missing = { start: 0 } as unknown as Extents; // what a hostile guest might send
    expect(populate(bed, bed.dom0, d.domid, missing)).toBe(0);
    expect([d.crashed, other.r.totPages]).toEqual([false, 0]);
    expectSound(bed);
  });

  it('lets a domain with a device use orders up to 12, and the control domain up to 18', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed, { iommu: true });
    expect(populate(bed, d, SELF, { start: 0, count: 1 }, 12)).toBe(0);
    hypercall(bed, bed.dom0, {
      op: 'assign_device',
      domid: d.domid,
      sbdf: bed.h.config.devices[0]?.sbdf ?? 0,
      flags: 0,
    });
    expect(populate(bed, d, SELF, { start: 0, count: 1 }, 12)).toBe(1);
    expect(populate(bed, d, SELF, { start: 0x4000, count: 1 }, 13)).toBe(0);
    expect(populate(bed, bed.dom0, d.domid, { start: 0x8000, count: 1 }, 13)).toBe(1);
    expectSound(bed);
  });

  it('over RAM succeeds and leaves the old frame an owned orphan', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed);
    populate(bed, bed.dom0, d.domid, { start: 5, count: 1 });
    expect(populate(bed, d, SELF, { start: 5, count: 1 })).toBe(1);
    expect(d.r.totPages).toBe(2);
    expectSound(bed);
  });

  it('over a special entry crashes the guest and counts nothing', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed);
    hypercall(bed, bed.dom0, { op: 'iomem_permission', domid: d.domid, firstMfn: 0xf0000, nrMfns: 4, allow: true });
    const map = {
      op: 'memory_mapping',
      domid: d.domid,
      firstGfn: 0xf0000,
      firstMfn: 0xf0000,
      nrMfns: 4,
      add: true,
    } as const;
    expect(hypercall(bed, bed.dom0, map).rc).toBe(0);
    expect(populate(bed, bed.dom0, d.domid, { start: 0xf0001, count: 1 })).toBe(0);
    expect(d.crashed).toBe(true);
    expectSound(bed);
  });
});

describe('increase_reservation', () => {
  it('adds pages that no gfn shows', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed);
    expect(increase(bed, d, SELF, 3, 4)).toBe(3);
    expect(d.r.totPages).toBe(48);
    expect(increase(bed, d, SELF, 1, 10)).toBe(0);
    expectSound(bed);
  });
});

describe('decrease_reservation', () => {
  it('frees what it removes, and a hole stops it with the extents done so far', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed, { iommu: true });
    populate(bed, bed.dom0, d.domid, { start: 0, count: 1 }, 9);
    const free = bed.h.heap.freePages;
    expect(decrease(bed, d, SELF, { frames: [3, 4, 600, 5] })).toBe(2);
    expect([d.r.totPages, bed.h.heap.freePages]).toEqual([510, free + 2]);
    expectSound(bed);
  });

  it('keeps pages it removed from an extent that it cannot finish', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed);
    populate(bed, bed.dom0, d.domid, { start: 0, count: 3 });
    expect(decrease(bed, d, SELF, { start: 0, count: 1 }, 2)).toBe(0);
    expect(d.r.totPages).toBe(0);
    expectSound(bed);
  });

  it('does not touch direct MMIO (EPERM inside) or another domain', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed);
    hypercall(bed, bed.dom0, { op: 'iomem_permission', domid: d.domid, firstMfn: 0xf0000, nrMfns: 1, allow: true });
    hypercall(bed, bed.dom0, {
      op: 'memory_mapping',
      domid: d.domid,
      firstGfn: 7,
      firstMfn: 0xf0000,
      nrMfns: 1,
      add: true,
    });
    expect(decrease(bed, d, SELF, { start: 7, count: 1 })).toBe(0);
    expect(decrease(bed, d, 0, { start: 7, count: 1 })).toBe(0);
    expectSound(bed);
  });

  it('gives a frame to the heap only when its last reference goes', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed);
    populate(bed, bed.dom0, d.domid, { start: 0, count: 1 });
    hypercall(bed, bed.dom0, {
      op: 'add_to_physmap_batch',
      domid: 0,
      space: 4,
      foreignDomid: d.domid,
      idxs: { start: 0, count: 1 },
      gpfns: { start: 0x40, count: 1 },
    });
    const free = bed.h.heap.freePages;
    expect(decrease(bed, d, SELF, { start: 0, count: 1 })).toBe(1);
    expect([d.r.totPages, bed.h.heap.freePages]).toEqual([1, free]);
    hypercall(bed, bed.dom0, { op: 'remove_from_physmap', domid: 0, gpfn: 0x40 });
    expect([d.r.totPages, bed.h.heap.freePages]).toEqual([0, free + 1]);
    expectSound(bed);
  });
});
