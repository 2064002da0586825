import { describe, expect, it } from 'vitest';
import { bootTestbed, expectSound, hypercall, type Testbed } from '../../test-support/hypercall-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import type { Mfn } from '../frames/addresses.ts';
import { defaultPolicies } from '../host-config.ts';
import { hvmMem } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import { iommuLookupPage } from '../iommu/iommu.ts';
import { getGfn, getPageFromGfn, P2M_ALLOC, P2M_QUERY, putGfn } from './get-entry.ts';
import { Leaf } from './peek-entry.ts';
import { p2mRemovePage } from './physmap.ts';
import { p2mType } from './types.ts';

/** A PV guest behind the IOMMU with 16 pages: pseudo-physical 0x100…, machine frames as they came. */
function pvGuest(bed: Testbed): { d: Domain; frames: Mfn[] } {
  const spec = { name: 'pv', hvm: false, hap: false, iommu: true, noSharept: false, deviceModel: false, vcpus: 1 };
  const { domid = -1 } = hypercall(bed, bed.dom0, { op: 'createdomain', domid: 0, ...spec });
  hypercall(bed, bed.dom0, { op: 'max_mem', domid, maxKb: 4096 });
  const extents = { start: 0x100, count: 16 };
  expect(hypercall(bed, bed.dom0, { op: 'populate_physmap', domid, order: 0, memFlags: 0, extents }).rc).toBe(16);
  hypercall(bed, bed.dom0, { op: 'unpausedomain', domid });
  const d = bed.h.domain(domid) as Domain; // just created
  const frames: Mfn[] = [];
  for (let m = 0; m < bed.h.config.frames; m++) {
    const g = bed.h.frames.ownerOf(m as Mfn) === d.domid ? bed.h.frames.gfnOf(m as Mfn) : -1;
    if (g >= 0) frames[g - 0x100] = m as Mfn;
  }
  return { d, frames };
}

const separate = { policies: { ...defaultPolicies, iommuTables: 'separate' as const } };

describe('a PV domain', () => {
  it('has M2P and I/O mappings by machine frame, but no p2m: a lookup claims RAM where gfn is mfn, and takes no lock', () => {
    const bed = bootTestbed(separate);
    const { d, frames } = pvGuest(bed);
    expect([d.r.p2mRoot, frames.length, d.r.totPages]).toEqual([0, 16, 16]);
    const [m = 0 as Mfn] = frames;
    expect([iommuLookupPage(bed.h, d, m).mfn, bed.h.frames.gfnOf(m)]).toEqual([m, 0x100]);
    const leaf = new Leaf();
    expect([getGfn(bed.h, d, m, P2M_QUERY, leaf), leaf.type, leaf.order]).toEqual([m, p2mType.ramRw, 0]);
    expect(d.locks.p2m.writeHeld).toBe(false);
    putGfn(bed.h, d);
    expectSound(bed);
  });

  it('lends its own frames only: a reference on another frame, or beyond the frame table, is refused', () => {
    const bed = bootTestbed(separate);
    const { d, frames } = pvGuest(bed);
    const [m = 0 as Mfn] = frames;
    const leaf = new Leaf();
    expect(getPageFromGfn(bed.h, d, m, P2M_ALLOC, leaf)).toBe(m);
    bed.h.frames.dropReference(m);
    const table = bed.h.tables.frameOf(bed.dom0.r.p2mRoot as never);
    expect(getPageFromGfn(bed.h, d, table, P2M_ALLOC, leaf)).toBe(-1);
    expect(getPageFromGfn(bed.h, d, 2 ** 30, P2M_ALLOC, leaf)).toBe(-1);
  });

  it('gives up frames by their machine number: the device loses the page before the heap gets it', () => {
    const bed = bootTestbed(separate);
    const { d, frames } = pvGuest(bed);
    const free = bed.h.heap.freePages;
    const give = (list: readonly number[]): number =>
      hypercall(bed, d, { op: 'decrease_reservation', domid: d.domid, order: 0, extents: { frames: list } }).rc;
    expect(give(frames.slice(0, 3))).toBe(3);
    expect([bed.h.heap.freePages, d.r.totPages]).toEqual([free + 3, 13]);
    expect(iommuLookupPage(bed.h, d, frames[1] ?? 0).rc).toBe(-errno.ENOENT);
    expect(give([frames[1] ?? 0])).toBe(0); // gone already
    expect(give([2 ** 30])).toBe(0);
    expect(p2mRemovePage(bed.h, d, frames[5] ?? 0, frames[5] as Mfn, 0)).toBe(0); // nothing to unmap
    expect(bed.h.frames.gfnOf(frames[5] as Mfn)).toBe(0x105);
    expectSound(bed);
  });

  it('may be mapped by dom0, which keeps the frame alive after the guest has given it up', () => {
    const bed = bootTestbed(separate);
    const { d, frames } = pvGuest(bed);
    const [m = 0 as Mfn] = frames;
    const map = { op: 'add_to_physmap_batch', domid: 0, space: 4, foreignDomid: d.domid } as const;
    const { errs } = hypercall(bed, bed.dom0, {
      ...map,
      idxs: { start: m, count: 1 },
      gpfns: { start: 0x9000, count: 1 },
    });
    expect(errs).toEqual([0]);
    const extents = { frames: [m] };
    hypercall(bed, d, { op: 'decrease_reservation', domid: d.domid, order: 0, extents });
    expect([bed.h.frames.ownerOf(m), d.r.totPages]).toEqual([d.domid, 16]);
    expect(hypercall(bed, bed.dom0, { op: 'remove_from_physmap', domid: 0, gpfn: 0x9000 }).rc).toBe(0);
    expect([bed.h.frames.ownerOf(m), d.r.totPages]).toEqual([-1, 15]);
    expectSound(bed);
  });

  it('is told what makes no sense for it in Xen’s words', () => {
    const bed = bootTestbed(separate);
    const { d } = pvGuest(bed);
    const { domid } = d;
    const ask = (call: Parameters<typeof hypercall>[2]): number => hypercall(bed, bed.dom0, call).rc;
    expect(ask({ op: 'add_to_physmap', domid, space: 2, idx: 1, gpfn: 2, size: 0 })).toBe(-errno.EACCES);
    expect(ask({ op: 'remove_from_physmap', domid, gpfn: 1 })).toBe(-errno.EACCES);
    expect(ask({ op: 'set_pod_target', domid, targetPages: 1 })).toBe(-errno.EINVAL);
    expect(ask({ op: 'set_mem_type', domid, memType: hvmMem.ramRo, first: 0, count: 1 })).toBe(-errno.EINVAL);
    expect(ask({ op: 'memory_mapping', domid, firstGfn: 0x8000, firstMfn: 0x8000, nrMfns: 1, add: true })).toBe(
      -errno.EPERM,
    );
    expect(ask({ op: 'iomem_permission', domid, firstMfn: 0x8000, nrMfns: 1, allow: true })).toBe(0);
    expect(ask({ op: 'memory_mapping', domid, firstGfn: 0x8000, firstMfn: 0x8000, nrMfns: 1, add: true })).toBe(0);
    expect(ask({ op: 'maximum_gpfn', domid })).toBe(0);
    expect(ask({ op: 'destroydomain', domid })).toBe(0);
    expectSound(bed);
  });
});
