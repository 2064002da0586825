import { describe, expect, it } from 'vitest';
import { bootGpuHost, engineOn, gpuGuest } from '../../test-support/gpu-fixture.ts';
import { expectSound, hypercall, slice, type Testbed } from '../../test-support/hypercall-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { type Mfn, sbdf } from '../frames/addresses.ts';
import type { ModelPolicies } from '../host-config.ts';
import { iommuLookupPage } from '../iommu/iommu.ts';
import { mapsAllRam } from '../iommu/one-to-one.ts';
import { iommuCap } from '../iommu/pv-iommu.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import type { IommuOp } from './calls.ts';
import { errno } from './errno.ts';

const RW = 3;
const RW_M2B = 11;
const GPU = sbdf(0, 0, 2, 0);

function boot(some: Partial<ModelPolicies> = {}): { bed: Testbed; d: Domain; base: number } {
  const bed = bootGpuHost({ mediated: 'B', ...some });
  hypercall(bed, bed.dom0, {
    op: 'populate_physmap',
    domid: 0,
    order: 0,
    memFlags: 0,
    extents: { start: 0, count: 16 },
  });
  return { bed, d: gpuGuest(bed, 64), base: bed.h.pvIommu.base };
}

const op = (kind: IommuOp['kind'], some: Partial<IommuOp> = {}): IommuOp => ({
  kind,
  bfn: 0,
  gfn: 0,
  domid: 0,
  flags: 0,
  ...some,
});

const run = (bed: Testbed, ...ops: IommuOp[]): readonly number[] =>
  hypercall(bed, bed.dom0, { op: 'iommu_op', ops }).statuses ?? [];

const frameOf = (bed: Testbed, d: Domain, g: number): Mfn => peekEntry(bed.h, d, g, new Leaf());
const busLeads = (bed: Testbed, bfn: number): number => iommuLookupPage(bed.h, bed.dom0, bfn).mfn;
const count = (bed: Testbed, m: Mfn): number => bed.h.frames.count[m] as number;

describe('iommu_op', () => {
  it('maps a guest frame by (domid, gfn) with one reference, and gives it back', () => {
    const { bed, d, base } = boot();
    const m = frameOf(bed, d, 5);
    expect(run(bed, op('map_foreign_page', { bfn: base, gfn: 5, domid: d.domid, flags: RW_M2B }))).toEqual([0]);
    expect([busLeads(bed, base), count(bed, m)]).toEqual([m, 2]);
    expect(run(bed, op('lookup_foreign_page', { gfn: 5, domid: d.domid }))).toEqual([base]);
    expect(count(bed, m)).toBe(2);
    expectSound(bed);
    const unmap = op('unmap_foreign_page', { bfn: base });
    expect(run(bed, unmap)).toEqual([0]);
    expect([busLeads(bed, base), count(bed, m)]).toEqual([m, 2]);
    expect(run(bed, unmap, unmap)).toEqual([0, -errno.ENOENT]);
    expect([busLeads(bed, base), count(bed, m)]).toEqual([-1, 1]);
    expectSound(bed);
  });

  it('answers every mistake with its errno and changes nothing', () => {
    const { bed, d, base } = boot();
    const guest = { bfn: base, gfn: 5, domid: d.domid, flags: RW };
    run(bed, op('map_foreign_page', { ...guest, bfn: base + 9, gfn: 9 }));
    const before = bed.h.counters.read('iommu.map');
    const answers = run(
      bed,
      op('map_foreign_page', { ...guest, bfn: base + 9 }),
      op('map_foreign_page', { ...guest, domid: 0 }),
      op('map_foreign_page', { ...guest, domid: 77 }),
      op('map_foreign_page', { ...guest, gfn: 4000 }),
      op('map_foreign_page', { ...guest, flags: RW | (9 << 10) }),
      op('map_foreign_page', { ...guest, flags: 0 }),
      op('map_foreign_page', { ...guest, bfn: 3 }),
      op('lookup_foreign_page', guest),
      op('unmap_foreign_page', guest),
      op('unmap_page', guest),
      op('map_page', { bfn: base + 1, gfn: 3000, flags: RW }),
      op('map_page', { bfn: base + 9, gfn: 3, flags: RW }),
      op('nonsense' as never),
      { kind: 'map_page', bfn: -1, gfn: 0.5, domid: 0, flags: Number.NaN },
    );
    const { EPERM, ENXIO, ENOSPC, EINVAL, ENOENT, ENOSYS } = errno;
    expect(answers.map((n) => -n)).toEqual([
      EPERM,
      EPERM,
      ENXIO,
      EPERM,
      ENOSPC,
      EINVAL,
      EPERM,
      ENOENT,
      ENOENT,
      ENOENT,
      EPERM,
      EPERM,
      ENOSYS,
      EINVAL,
    ]);
    expect(bed.h.counters.read('iommu.map')).toBe(before);
    expectSound(bed);
    expect(hypercall(bed, d, { op: 'iommu_op', ops: [op('query_caps')] }).rc).toBe(-errno.ENOSYS);
    expect(hypercall(bed, bed.dom0, { op: 'iommu_op', ops: 7 as never }).rc).toBe(-errno.EFAULT);
  });

  it('says what dom0 may do: map where it has tables of its own, nothing with shared ones or 1:1', () => {
    const caps = (some: Partial<ModelPolicies>): readonly number[] => run(bootGpuHost(some), op('query_caps'));
    expect(caps({})).toEqual([iommuCap.map]);
    expect(caps({ iommuTables: 'shared' })).toEqual([0]);
    expect(caps({ mediated: 'A' })).toEqual([0]);
  });

  it('premaps a page of dom0 itself, and keeps it while a mediator uses it', () => {
    const { bed, base } = boot();
    expect(run(bed, op('map_page', { bfn: base + 2, gfn: 7, flags: RW_M2B }))).toEqual([0]);
    expect(busLeads(bed, base + 2)).toBe(frameOf(bed, bed.dom0, 7));
    expect(run(bed, op('unmap_page', { bfn: base + 2 }), op('unmap_page', { bfn: base + 2 }))).toEqual([
      0,
      -errno.ENOENT,
    ]);
    expectSound(bed);
  });

  it('gives a guest’s device rights only: no page of a trapped table', () => {
    const { bed, d, base } = boot();
    const { domid } = d;
    const id = hypercall(bed, bed.dom0, { op: 'create_ioreq_server', domid }).id ?? -1;
    hypercall(bed, bed.dom0, { op: 'map_mem_type_to_ioreq_server', domid, id, memType: 4, flags: 2 });
    hypercall(bed, bed.dom0, { op: 'set_mem_type', domid, memType: 4, first: 5, count: 1 });
    expect(run(bed, op('map_foreign_page', { bfn: base, gfn: 5, domid, flags: RW }))).toEqual([-errno.EPERM]);
  });

  it('flushes once for a batch, and once more for each slice that is preempted', () => {
    const { bed, d, base } = boot();
    const each = (kind: IommuOp['kind']): IommuOp[] =>
      Array.from({ length: 8 }, (_, i) => op(kind, { bfn: base + i, gfn: i, domid: d.domid, flags: RW }));
    run(bed, ...each('map_foreign_page'));
    const before = bed.h.counters.read('pvIommu.flush');
    run(bed, ...each('unmap_foreign_page'));
    expect(bed.h.counters.read('pvIommu.flush') - before).toBe(1);
    run(bed, ...each('map_foreign_page'));
    bed.preempt = () => true;
    expect(run(bed, ...each('unmap_foreign_page'))).toEqual(Array(8).fill(0));
    expect(bed.h.counters.read('pvIommu.flush') - before).toBe(9);
    expectSound(bed);
  });

  it('ends a preempted slice with nothing unflushed and nothing held', () => {
    const { bed, d, base } = boot();
    const ops = [0, 1].map((i) => op('map_foreign_page', { bfn: base + i, gfn: i, domid: d.domid, flags: RW }));
    run(bed, ...ops);
    bed.preempt = () => true;
    const unmaps = ops.map(({ bfn }) => op('unmap_foreign_page', { bfn }));
    const first = slice(bed, bed.dom0, { op: 'iommu_op', ops: unmaps });
    expect(first.end).toBe('continue');
    expect(count(bed, frameOf(bed, d, 0))).toBe(1);
    expectSound(bed);
  });

  it('keeps dom0’s own gfns out of the bus frames it manages', () => {
    const { bed, base } = boot();
    const extents = { start: base + 3, count: 1 };
    const { rc } = hypercall(bed, bed.dom0, { op: 'populate_physmap', domid: 0, order: 0, memFlags: 0, extents });
    expect(rc).toBe(0);
    expectSound(bed);
  });
});

describe('gfn_to_mfn', () => {
  it('tells a 1:1 dom0 where a guest’s frames are, and holds none of them', () => {
    const bed = bootGpuHost({ mediated: 'A' });
    const d = gpuGuest(bed, 64);
    expect(mapsAllRam(bed.dom0)).toBe(true);
    const { mfns } = hypercall(bed, bed.dom0, { op: 'gfn_to_mfn', domid: d.domid, gfns: { frames: [3, 4000, 5] } });
    expect(mfns).toEqual([frameOf(bed, d, 3), -1, frameOf(bed, d, 5)]);
    expect(count(bed, frameOf(bed, d, 3))).toBe(1);
    expect(hypercall(bed, d, { op: 'gfn_to_mfn', domid: 0, gfns: { start: 0, count: 1 } }).rc).toBe(-errno.EPERM);
    expect(hypercall(bed, bed.dom0, { op: 'gfn_to_mfn', domid: 99, gfns: { start: 0, count: 1 } }).rc).toBe(
      -errno.ESRCH,
    );
    expectSound(bed);
  });
});

/** X is behind bus frame b, the IOTLB knows it, and the guest has given X up: only the mapping keeps it. */
function lastReference(pvIommu: ModelPolicies['pvIommu']): ReturnType<typeof boot> & { x: Mfn; warm: () => number } {
  const made = boot({ pvIommu });
  const { bed, d, base } = made;
  const x = frameOf(bed, d, 5);
  run(bed, op('map_foreign_page', { bfn: base, gfn: 5, domid: d.domid, flags: RW_M2B }));
  const { dma } = engineOn(bed);
  const warm = (): number => dma.transaction(GPU, base, 'w', 1);
  expect(warm()).toBe(0);
  const extents = { start: 5, count: 1 };
  hypercall(bed, d, { op: 'decrease_reservation', domid: d.domid, order: 0, extents });
  return { ...made, x, warm };
}

const names = (bed: Testbed): string[] => bed.log.violations.map(({ invariant }) => invariant);

describe('pv-iommu-batch', () => {
  const unmapTwo = (base: number): IommuOp[] => [
    op('unmap_foreign_page', { bfn: base }),
    op('unmap_foreign_page', { bfn: base + 1 }),
  ];

  it('right: the frame is free only when the batch has been flushed', () => {
    const { bed, base, x } = lastReference('right');
    run(bed, ...unmapTwo(base));
    expect([count(bed, x), names(bed)]).toEqual([0, []]);
    expectSound(bed);
  });

  it('drop-in-op, the historic way: the frame is free while the IOTLB still leads to it', () => {
    const { bed, base } = lastReference('drop-in-op');
    run(bed, ...unmapTwo(base));
    expect(names(bed)).toEqual(['noFrameFreedWhileAnyTlbHoldsIt']);
  });
});

describe('bfn-reuse', () => {
  const reuse = (base: number, domid: number): IommuOp[] => [
    op('unmap_foreign_page', { bfn: base }),
    op('map_foreign_page', { bfn: base, gfn: 6, domid, flags: RW }),
  ];

  it('right: a bus frame that is mapped again in the same batch is flushed first', () => {
    const { bed, d, base, x, warm } = lastReference('right');
    expect(run(bed, ...reuse(base, d.domid))).toEqual([0, 0]);
    expect(warm()).toBe(0);
    expect(bed.h.frames.tag[frameOf(bed, d, 6)]).toBe(1);
    // Free, or a table page by now.
    expect([bed.h.frames.ownerOf(x), names(bed)]).toEqual([-1, []]);
    expectSound(bed);
  });

  it('reuse-unflushed: mapped again while the IOTLB still leads to the old frame, which is free', () => {
    const { bed, d, base } = lastReference('reuse-unflushed');
    run(bed, ...reuse(base, d.domid));
    expect(names(bed)).toEqual(['busFrameIsCleanBeforeReuse', 'noFrameFreedWhileAnyTlbHoldsIt']);
  });
});
