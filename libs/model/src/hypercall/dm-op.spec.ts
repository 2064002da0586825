import { describe, expect, it } from 'vitest';
import {
  bootTestbed,
  expectSound,
  hypercall,
  makeGuest,
  slice,
  type Testbed,
} from '../../test-support/hypercall-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, sbdf } from '../frames/addresses.ts';
import { defaultPolicies } from '../host-config.ts';
import { IOMMUF_readable } from '../iommu/flags.ts';
import { iommuLookupPage } from '../iommu/iommu.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { p2mTypeName } from '../p2m/types.ts';
import { hvmMem, shadowOp, XENMEMF_populate_on_demand } from './calls.ts';
import { errno } from './errno.ts';

const GPU = sbdf(0, 0, 2, 0);

function guestWithRam(bed: Testbed, iommu = false): Domain {
  const d = makeGuest(bed, { iommu });
  const extents = { start: 0, count: 2 };
  hypercall(bed, bed.dom0, { op: 'populate_physmap', domid: d.domid, order: 9, memFlags: 0, extents });
  return d;
}

const setType = (bed: Testbed, d: Domain, memType: number, first: number, count: number): number =>
  hypercall(bed, bed.dom0, { op: 'set_mem_type', domid: d.domid, memType, first, count }).rc;

const typesOf = (bed: Testbed, d: Domain, ...gfns: number[]): string[] =>
  gfns.map((g) => {
    const leaf = new Leaf();
    peekEntry(bed.h, d, g, leaf);
    return p2mTypeName(leaf.type);
  });

function claimed(bed: Testbed, d: Domain): number {
  const { domid } = d;
  const { id = -1 } = hypercall(bed, bed.dom0, { op: 'create_ioreq_server', domid });
  const claim = { op: 'map_mem_type_to_ioreq_server', domid, id, memType: hvmMem.ioreqServer, flags: 2 } as const;
  expect(hypercall(bed, bed.dom0, claim).rc).toBe(0);
  return id;
}

describe('set_mem_type', () => {
  it('allows what Xen allows: RAM to RAM kinds and to emulated, RAM to ioreq_server and back, a hole to emulated', () => {
    const bed = bootTestbed();
    const d = guestWithRam(bed);
    expect(setType(bed, d, hvmMem.ioreqServer, 5, 1)).toBe(-errno.EINVAL); // nobody has claimed the type
    claimed(bed, d);
    expect(setType(bed, d, hvmMem.ramRo, 5, 2)).toBe(0);
    expect(setType(bed, d, hvmMem.ioreqServer, 5, 1)).toBe(-errno.EINVAL);
    expect(setType(bed, d, hvmMem.ramRw, 6, 1)).toBe(0);
    expect(setType(bed, d, hvmMem.ioreqServer, 6, 1)).toBe(0);
    expect(setType(bed, d, hvmMem.ramRo, 6, 1)).toBe(-errno.EINVAL);
    expect(setType(bed, d, hvmMem.mmioDm, 7, 1)).toBe(0);
    expect(typesOf(bed, d, 4, 5, 6, 7, 8)).toEqual(['ramRw', 'ramRo', 'ioreqServer', 'mmioDm', 'ramRw']);
    expect(setType(bed, d, hvmMem.ramRw, 7, 1)).toBe(-errno.EINVAL);
    expect([setType(bed, d, 3, 5, 1), setType(bed, d, 9, 5, 1)]).toEqual([-errno.EINVAL, -errno.EINVAL]);
    expect(setType(bed, d, hvmMem.ramRo, 1020, 5)).toBe(-errno.EINVAL); // beyond the highest gfn
    expectSound(bed);
  });

  it('a page made emulated keeps its frame in the entry and out of reach; dropped writes leave read-only RAM as it was', () => {
    const bed = bootTestbed({ policies: { ...defaultPolicies, iommuTables: 'separate' } });
    const d = guestWithRam(bed, true);
    hypercall(bed, d, { op: 'store', frames: { start: 5, count: 2 }, tag: 7 });
    setType(bed, d, hvmMem.mmioDm, 5, 1);
    setType(bed, d, hvmMem.ramRo, 6, 1);
    expect(peekEntry(bed.h, d, 5, new Leaf())).not.toBe(INVALID_MFN);
    expect(iommuLookupPage(bed.h, d, 5).rc).toBe(-errno.ENOENT);
    expect(iommuLookupPage(bed.h, d, 6).flags).toBe(IOMMUF_readable);
    expect(hypercall(bed, d, { op: 'store', frames: { start: 5, count: 2 }, tag: 9 }).faulted).toBe(2);
    expect(hypercall(bed, d, { op: 'load', frames: { start: 5, count: 2 } }).tags).toEqual([-1, 7]);
    expectSound(bed);
  });

  it('populates a PoD page first', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed);
    const { domid } = d;
    hypercall(bed, bed.dom0, { op: 'set_pod_target', domid, targetPages: 100 });
    const extents = { start: 0, count: 1 };
    const memFlags = XENMEMF_populate_on_demand;
    hypercall(bed, bed.dom0, { op: 'populate_physmap', domid, order: 9, memFlags, extents });
    const entries = d.r.podEntryCount;
    expect(setType(bed, d, hvmMem.ramRo, 9, 1)).toBe(0);
    expect([d.r.podEntryCount < entries, ...typesOf(bed, d, 9)]).toEqual([true, 'ramRo']);
    expectSound(bed);
  });
});

describe('pages of an ioreq server', () => {
  for (const iommuTables of ['separate', 'shared'] as const) {
    it(`with ${iommuTables} tables: CPU reads hit RAM, CPU writes are emulated, and devices see it Xen's way`, () => {
      const bed = bootTestbed({ policies: { ...defaultPolicies, iommuTables } });
      const d = guestWithRam(bed, true);
      hypercall(bed, d, { op: 'store', frames: { start: 5, count: 1 }, tag: 7 });
      const id = claimed(bed, d);
      expect(setType(bed, d, hvmMem.ioreqServer, 5, 3)).toBe(0);
      expect(d.r.ioreqEntryCount).toBe(3);
      expect(hypercall(bed, d, { op: 'store', frames: { start: 5, count: 1 }, tag: 9 }).faulted).toBe(1);
      expect(hypercall(bed, d, { op: 'load', frames: { start: 5, count: 1 } }).tags).toEqual([7]);
      hypercall(bed, bed.dom0, { op: 'assign_device', domid: d.domid, sbdf: GPU, flags: 0 });
      if (iommuTables === 'separate') expect(iommuLookupPage(bed.h, d, 5).rc).toBe(-errno.ENOENT);
      expectSound(bed);
      const claim = { op: 'map_mem_type_to_ioreq_server', domid: d.domid, id, memType: 4 } as const;
      expect(hypercall(bed, bed.dom0, { ...claim, flags: 0 }).rc).toBe(0);
      expect([d.r.ioreqEntryCount, ...typesOf(bed, d, 5)]).toEqual([0, 'ramRw']);
      expect(hypercall(bed, d, { op: 'store', frames: { start: 5, count: 1 }, tag: 9 }).faulted).toBe(0);
      expectSound(bed);
    });
  }

  it('the sweep after giving up the claim may yield; until it is through nobody else can claim', () => {
    const bed = bootTestbed();
    const d = guestWithRam(bed);
    const { domid } = d;
    const id = claimed(bed, d);
    expect(setType(bed, d, hvmMem.ioreqServer, 0, 1024)).toBe(0);
    const other = hypercall(bed, bed.dom0, { op: 'create_ioreq_server', domid }).id ?? -1;
    const call = { op: 'map_mem_type_to_ioreq_server', domid, memType: 4 } as const;
    bed.preempt = () => true;
    let outcome = slice(bed, bed.dom0, { ...call, id, flags: 0 });
    expect(outcome.end).toBe('continue');
    expect(hypercall(bed, bed.dom0, { ...call, id: other, flags: 2 }).rc).toBe(-errno.EBUSY);
    expectSound(bed);
    while (outcome.end === 'continue') outcome = slice(bed, bed.dom0, { ...call, id, flags: 0 }, outcome.state);
    expect(outcome).toEqual({ end: 'done', answer: { rc: 0 } });
    expect(hypercall(bed, bed.dom0, { ...call, id: other, flags: 2 }).rc).toBe(0);
    expectSound(bed);
  });

  it('refuses as Xen does', () => {
    const bed = bootTestbed();
    const d = guestWithRam(bed);
    const { domid } = d;
    const call = { op: 'map_mem_type_to_ioreq_server', domid } as const;
    const id = claimed(bed, d);
    const ask = (memType: number, server: number, flags: number): number =>
      hypercall(bed, bed.dom0, { ...call, id: server, memType, flags }).rc;
    expect([ask(0, id, 2), ask(4, id, 1), ask(4, 6, 2), ask(4, id, 2)]).toEqual([
      -errno.EINVAL,
      -errno.EINVAL,
      -errno.ENOENT,
      -errno.EBUSY,
    ]);
    const other = hypercall(bed, bed.dom0, { op: 'create_ioreq_server', domid }).id ?? -1;
    expect(ask(4, other, 0)).toBe(-errno.EINVAL);
    for (let i = 2; i < 8; i++) expect(hypercall(bed, bed.dom0, { op: 'create_ioreq_server', domid }).rc).toBe(0);
    expect(hypercall(bed, bed.dom0, { op: 'create_ioreq_server', domid }).rc).toBe(-errno.ENOSPC);
    expect(hypercall(bed, bed.dom0, { op: 'destroy_ioreq_server', domid, id }).rc).toBe(0);
    expect(hypercall(bed, bed.dom0, { op: 'destroy_ioreq_server', domid, id }).rc).toBe(-errno.ENOENT);
    expect(ask(4, other, 2)).toBe(0);
    const first = { op: 'modified_memory', first: 0, count: 1 } as const;
    expect(hypercall(bed, d, { ...first, domid }).rc).toBe(-errno.EPERM);
    expect(hypercall(bed, d, { ...first, domid: 0 }).rc).toBe(-errno.EPERM);
    expect(hypercall(bed, bed.dom0, { ...first, domid: 77 }).rc).toBe(-errno.ESRCH);
  });
});

describe('what a device model watches and tells', () => {
  const watch = (bed: Testbed, d: Domain, first: number, count: number) =>
    hypercall(bed, bed.dom0, { op: 'track_dirty_vram', domid: d.domid, first, count });

  it('video memory: all dirty at first, then what was written since the last look; beside a device, and after a move', () => {
    const bed = bootTestbed();
    const d = guestWithRam(bed, true);
    hypercall(bed, bed.dom0, { op: 'assign_device', domid: d.domid, sbdf: GPU, flags: 0 });
    expect(watch(bed, d, 500, 40).bitmap).toEqual([2 ** 32 - 1, 2 ** 8 - 1]);
    expect(watch(bed, d, 500, 40).bitmap).toEqual([0, 0]);
    hypercall(bed, d, { op: 'store', frames: { frames: [500, 535, 499] }, tag: 1 });
    expect(watch(bed, d, 500, 40).bitmap).toEqual([1, 8]);
    expect(watch(bed, d, 500, 40).bitmap).toEqual([0, 0]);
    expect(watch(bed, d, 520, 40).bitmap).toEqual([2 ** 32 - 1, 2 ** 8 - 1]);
    expect(typesOf(bed, d, 500, 519, 520, 559, 560)).toEqual(['ramRw', 'ramRw', 'ramLogdirty', 'ramLogdirty', 'ramRw']);
    expect(watch(bed, d, 0, 0)).toEqual({ rc: 0, bitmap: [] });
    expect([typesOf(bed, d, 530)[0], d.r.logdirtyRangeCount, d.r.pauseCount]).toEqual(['ramRw', 0, 0]);
    expect(watch(bed, d, 0, 2 ** 18 + 1).rc).toBe(-errno.EINVAL);
    expectSound(bed);
  });

  it('pages a device model wrote are dirty, if writes are logged at all', () => {
    const bed = bootTestbed();
    const d = guestWithRam(bed);
    const tell = { op: 'modified_memory', domid: d.domid, first: 40, count: 2 } as const;
    expect(hypercall(bed, bed.dom0, tell).rc).toBe(0);
    const shadow = { op: 'shadow_op', domid: d.domid, mode: 0, pages: 64, copy: true, mb: 0 } as const;
    hypercall(bed, bed.dom0, { ...shadow, sop: shadowOp.enableLogdirty });
    expect(hypercall(bed, bed.dom0, tell).rc).toBe(0);
    expect(hypercall(bed, bed.dom0, { ...shadow, sop: shadowOp.peek }).bitmap).toEqual([0, 3 << 8]);
    expect(hypercall(bed, bed.dom0, { ...tell, first: 1023 }).rc).toBe(-errno.EINVAL);
  });
});
