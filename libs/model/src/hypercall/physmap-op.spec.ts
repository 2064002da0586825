import { describe, expect, it } from 'vitest';
import { bootTestbed, expectSound, hypercall, makeGuest, type Testbed } from '../../test-support/hypercall-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import type { HostConfig } from '../host-config.ts';
import { defaultPolicies } from '../host-config.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { p2mType } from '../p2m/types.ts';
import { physmapSpace, XENMEMF_populate_on_demand } from './calls.ts';
import { errno } from './errno.ts';

const RAM = 64;

function guest(overrides: Partial<HostConfig> = {}): { bed: Testbed; d: Domain } {
  const bed = bootTestbed(overrides);
  const d = makeGuest(bed, { iommu: true });
  hypercall(bed, bed.dom0, {
    op: 'populate_physmap',
    domid: d.domid,
    order: 0,
    memFlags: 0,
    extents: { start: 0, count: RAM },
  });
  for (let g = 0; g < RAM; g++) hypercall(bed, d, { op: 'store', frames: { start: g, count: 1 }, tag: g + 1 });
  return { bed, d };
}

const add = (bed: Testbed, d: Domain, space: number, idx: number, gpfn: number, size = 0, from = bed.dom0): number =>
  hypercall(bed, from, { op: 'add_to_physmap', domid: d.domid, space, idx, gpfn, size }).rc;
const tags = (bed: Testbed, d: Domain, start: number, count: number) =>
  hypercall(bed, d, { op: 'load', frames: { start, count } }).tags;
const typeAt = (bed: Testbed, d: Domain, g: number): number => {
  const leaf = new Leaf();
  peekEntry(bed.h, d, g, leaf);
  return leaf.type;
};

describe('add_to_physmap', () => {
  it('moves a page: contents go along, the old place is a hole, RAM at the new place is freed', () => {
    const { bed, d } = guest();
    const free = bed.h.heap.freePages;
    expect(add(bed, d, physmapSpace.gmfn, 3, 9)).toBe(0);
    expect(tags(bed, d, 9, 1)).toEqual([4]);
    expect(typeAt(bed, d, 3)).toBe(p2mType.mmioDm);
    expect([d.r.totPages, bed.h.heap.freePages]).toEqual([RAM - 1, free + 1]);
    expectSound(bed);
  });

  it('moves overlapping ranges either way without losing a page', () => {
    for (const [from, to] of [
      [10, 14],
      [14, 10],
    ] as const) {
      const { bed, d } = guest();
      expect(add(bed, d, physmapSpace.gmfnRange, from, to, 40)).toBe(0);
      expect(tags(bed, d, to, 40)).toEqual(Array.from({ length: 40 }, (_, i) => from + i + 1));
      expectSound(bed);
    }
  });

  it('flushes a moved range once per slice of 16 pages, with separate tables and with shared ones', () => {
    for (const iommuTables of ['separate', 'shared'] as const) {
      const { bed, d } = guest({ policies: { ...defaultPolicies, iommuTables } });
      expect(add(bed, d, physmapSpace.gmfnRange, 0, 0x1000, 40)).toBe(0);
      expect(bed.slices).toBe(3);
      expect(tags(bed, d, 0x1000, 40)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
      expectSound(bed);
    }
  });

  it('shows the shared-info page, and takes it back without losing it', () => {
    const { bed, d } = guest();
    expect(add(bed, d, physmapSpace.sharedInfo, 0, 0x2000, 0, d)).toBe(0);
    expect(add(bed, d, physmapSpace.sharedInfo, 0, 5, 0, d)).toBe(0);
    expect([typeAt(bed, d, 0x2000), typeAt(bed, d, 5), d.r.totPages]).toEqual([p2mType.mmioDm, p2mType.ramRw, RAM - 1]);
    expect(add(bed, d, physmapSpace.sharedInfo, 1, 5)).toBe(-errno.EINVAL);
    expectSound(bed);
  });

  it('answers Xen’s errors, in Xen’s order of checks', () => {
    const { bed, d } = guest();
    const pv = hypercall(bed, bed.dom0, {
      op: 'createdomain',
      domid: 0,
      name: 'pv',
      hvm: false,
      hap: false,
      iommu: false,
      noSharept: false,
      vcpus: 1,
      deviceModel: false,
    });
    const raw = (domid: number, gpfn: number) =>
      hypercall(bed, bed.dom0, { op: 'add_to_physmap', domid, space: 2, idx: 0, gpfn, size: 0 }).rc;
    expect(raw(999, 1)).toBe(-errno.ESRCH);
    expect(raw(pv.domid ?? 0, 1)).toBe(-errno.EACCES);
    expect(raw(d.domid, 2 ** 37 - 1)).toBe(-errno.EINVAL);
    expect(hypercall(bed, d, { op: 'add_to_physmap', domid: 0, space: 2, idx: 0, gpfn: 1, size: 0 }).rc).toBe(
      -errno.EPERM,
    );
    expect(add(bed, d, physmapSpace.gmfn, 0x9000, 1)).toBe(-errno.EACCES); // a hole is not ram_rw
    expect(add(bed, d, physmapSpace.gmfnForeign, 0, 1)).toBe(-errno.ENOSYS);
    expect(add(bed, d, physmapSpace.devMmio, 0xf0000, 1)).toBe(-errno.EACCES);
    expect(add(bed, d, physmapSpace.grantTable, 64, 1)).toBe(-errno.EINVAL);
    expect(add(bed, d, physmapSpace.gmfnRange, 2 ** 36 - 2, 1, 8)).toBe(-errno.EOVERFLOW);
    expect(add(bed, d, 77, 0, 1)).toBe(-errno.ENOSYS);
    hypercall(bed, bed.dom0, { op: 'iomem_permission', domid: d.domid, firstMfn: 0xf0000, nrMfns: 1, allow: true });
    hypercall(bed, bed.dom0, {
      op: 'memory_mapping',
      domid: d.domid,
      firstGfn: 7,
      firstMfn: 0xf0000,
      nrMfns: 1,
      add: false,
    });
    hypercall(bed, bed.dom0, {
      op: 'memory_mapping',
      domid: d.domid,
      firstGfn: 0x3000,
      firstMfn: 0xf0000,
      nrMfns: 1,
      add: true,
    });
    expect(add(bed, d, physmapSpace.gmfn, 1, 0x3000)).toBe(-errno.EPERM); // XSA-378: a BAR stays where it is
    expectSound(bed);
  });

  it('refuses a page whose M2P names another gfn (XSA-379)', () => {
    const { bed, d } = guest();
    const leaf = new Leaf();
    const mfn = peekEntry(bed.h, d, 6, leaf);
    bed.h.frames.setM2p(mfn, 7);
    expect(add(bed, d, physmapSpace.gmfn, 6, 0x100)).toBe(-errno.EXDEV);
    bed.h.frames.setM2p(mfn, 6);
    expectSound(bed);
  });
});

describe('add_to_physmap_batch', () => {
  const batch = (
    bed: Testbed,
    from: Domain,
    domid: number,
    foreignDomid: number,
    idxs: number[],
    gpfns: number[],
    space = 4,
  ) =>
    hypercall(bed, from, {
      op: 'add_to_physmap_batch',
      domid,
      space,
      foreignDomid,
      idxs: { frames: idxs },
      gpfns: { frames: gpfns },
    });

  it('maps foreign frames with an error per entry, and rc 0', () => {
    const { bed, d } = guest();
    const answer = batch(bed, bed.dom0, 0, d.domid, [1, 0x900, 3], [0x50, 0x51, 0x52]);
    expect(answer).toEqual({ rc: 0, errs: [0, -errno.EINVAL, 0] });
    expect(tags(bed, bed.dom0, 0x52, 1)).toEqual([4]);
    expect(bed.dom0.r.nrForeign).toBe(2);
    expectSound(bed);
  });

  it('populates a PoD page of the foreign guest', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed);
    hypercall(bed, bed.dom0, { op: 'set_pod_target', domid: d.domid, targetPages: 8 });
    const memFlags = XENMEMF_populate_on_demand;
    hypercall(bed, bed.dom0, {
      op: 'populate_physmap',
      domid: d.domid,
      order: 0,
      memFlags,
      extents: { start: 0, count: 8 },
    });
    expect(batch(bed, bed.dom0, 0, d.domid, [2], [0x50]).errs).toEqual([0]);
    expect([d.r.podEntryCount, d.r.podCount]).toEqual([7, 7]);
    expectSound(bed);
  });

  it('answers Xen’s errors', () => {
    const { bed, d } = guest();
    const other = makeGuest(bed);
    expect(batch(bed, bed.dom0, d.domid, 0, [0], [1], physmapSpace.gmfnRange).rc).toBe(-errno.EOPNOTSUPP);
    expect(batch(bed, bed.dom0, 0, 1, [0], [1], physmapSpace.devMmio).rc).toBe(-errno.EOPNOTSUPP);
    expect(batch(bed, bed.dom0, 0, d.domid, [0, 1], [1]).rc).toBe(-errno.EFAULT);
    expect(batch(bed, bed.dom0, 0, d.domid, [0], [2 ** 37]).rc).toBe(-errno.EINVAL);
    expect(batch(bed, d, d.domid, other.domid, [0], [1]).errs).toEqual([-errno.EPERM]);
    expect(batch(bed, bed.dom0, 0, 999, [0], [1]).errs).toEqual([-errno.ESRCH]);
    expect(batch(bed, bed.dom0, 0, 0, [0], [1]).errs).toEqual([-errno.EINVAL]);
    expectSound(bed);
  });
});

describe('remove_from_physmap', () => {
  const remove = (bed: Testbed, from: Domain, domid: number, gpfn: number): number =>
    hypercall(bed, from, { op: 'remove_from_physmap', domid, gpfn }).rc;

  it('unmaps RAM without freeing it', () => {
    const { bed, d } = guest();
    expect(remove(bed, d, d.domid, 4)).toBe(0);
    expect([typeAt(bed, d, 4), d.r.totPages]).toEqual([p2mType.mmioDm, RAM]);
    expect(remove(bed, d, d.domid, 4)).toBe(-errno.ENOENT);
    expect(remove(bed, d, 0, 4)).toBe(-errno.EPERM);
    expect(remove(bed, bed.dom0, 999, 4)).toBe(-errno.ESRCH);
    expectSound(bed);
  });
});
