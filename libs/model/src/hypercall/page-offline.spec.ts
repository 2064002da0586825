import { describe, expect, it } from 'vitest';
import { bootTestbed, expectSound, hypercall, makeGuest, type Testbed } from '../../test-support/hypercall-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { offlineStatus, pageOffline } from '../domain/offline.ts';
import { XENMEMF_populate_on_demand } from './calls.ts';
import { errno } from './errno.ts';

const op = (bed: Testbed, cmd: 'offline' | 'online' | 'query', start: number, end = start) =>
  hypercall(bed, bed.dom0, { op: 'page_offline_op', cmd, start, end });

/** A guest of `pages` 4K pages; its frames, by gfn. */
function ramGuest(bed: Testbed, pages: number): { d: Domain; frames: number[] } {
  const d = makeGuest(bed);
  const extents = { start: 0, count: pages };
  hypercall(bed, bed.dom0, { op: 'populate_physmap', domid: d.domid, order: 0, memFlags: 0, extents });
  const frames: number[] = [];
  for (let m = 0; m < bed.h.config.frames; m++) {
    const gfn = bed.h.frames.gfnOf(m as never);
    if (gfn >= 0 && bed.h.frames.ownerOf(m as never) === d.domid) frames[gfn] = m;
  }
  return { d, frames };
}

describe('frames taken offline', () => {
  it('a free one is gone at once and given to nobody until it is put back', () => {
    const bed = bootTestbed();
    const { freePages } = bed.h.heap;
    expect(op(bed, 'offline', 0x2000, 0x2002)).toEqual({ rc: 0, statuses: [2, 2, 2] });
    expect(op(bed, 'query', 0x2001, 0x2003).statuses).toEqual([offlineStatus.offlined, offlineStatus.offlined, 0]);
    expect(bed.h.heap.freePages).toBe(freePages - 3);
    expectSound(bed);
    expect(op(bed, 'online', 0x2000, 0x2003).statuses).toEqual([2, 2, 2, 0]);
    expect([bed.h.heap.freePages, bed.h.heap.offlinedPages]).toEqual([freePages, 0]);
    expectSound(bed);
  });

  it('one that a guest has stays the guest’s, and leaves when the guest gives it up', () => {
    const bed = bootTestbed();
    const { d, frames } = ramGuest(bed, 8);
    const m = frames[3] as number;
    const status = pageOffline.owned + pageOffline.pending + d.domid * 2 ** 16;
    expect(op(bed, 'offline', m)).toEqual({ rc: 0, statuses: [status] });
    expect([op(bed, 'query', m).statuses, d.r.totPages]).toEqual([[offlineStatus.pending], 8]);
    hypercall(bed, d, { op: 'decrease_reservation', domid: d.domid, order: 0, extents: { start: 3, count: 1 } });
    expect([op(bed, 'query', m).statuses, d.r.totPages]).toEqual([[offlineStatus.offlined], 7]);
    expectSound(bed);
  });

  it('a dead guest’s memory goes home but for the marked frames', () => {
    const bed = bootTestbed();
    const { freePages } = bed.h.heap;
    const { d, frames } = ramGuest(bed, 64);
    for (const gfn of [0, 17, 63]) op(bed, 'offline', frames[gfn] as number);
    hypercall(bed, bed.dom0, { op: 'destroydomain', domid: d.domid });
    expect([bed.h.heap.freePages, bed.h.heap.offlinedPages]).toEqual([freePages - 3, 3]);
    expectSound(bed);
  });

  it('in a PoD cache it is replaced by one fresh frame, and its 2M chunk becomes single frames', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed);
    hypercall(bed, bed.dom0, { op: 'set_pod_target', domid: d.domid, targetPages: 1025 });
    const extents = { start: 0, count: 4 };
    const memFlags = XENMEMF_populate_on_demand;
    hypercall(bed, bed.dom0, { op: 'populate_physmap', domid: d.domid, order: 9, memFlags, extents });
    const inChunk = (d.podSuper.first as number) + 77;
    const single = d.podSingle.first as number;
    expect(op(bed, 'offline', inChunk).statuses).toEqual([pageOffline.offlined]);
    expect([d.podSuper.length, d.podSingle.length, d.r.podCount, d.r.totPages]).toEqual([1, 513, 1025, 1025]);
    expect(op(bed, 'offline', single).statuses).toEqual([pageOffline.offlined]);
    expect([d.podSuper.length, d.podSingle.length, d.r.podCount, d.r.totPages]).toEqual([1, 513, 1025, 1025]);
    expect(op(bed, 'query', inChunk).statuses).toEqual([offlineStatus.offlined]);
    expectSound(bed);
    // What is left still serves the guest.
    expect(hypercall(bed, d, { op: 'touch', frames: { start: 0, count: 700 } })).toMatchObject({ done: 700 });
    expectSound(bed);
  });

  it('leaves a PoD cache one frame short when the host has no other', () => {
    const bed = bootTestbed({ frames: 8192 });
    const d = makeGuest(bed);
    hypercall(bed, bed.dom0, { op: 'set_pod_target', domid: d.domid, targetPages: 100 });
    const extents = { start: 0, count: 200 };
    const memFlags = XENMEMF_populate_on_demand;
    hypercall(bed, bed.dom0, { op: 'populate_physmap', domid: d.domid, order: 0, memFlags, extents });
    while (bed.h.heap.freePages > 0)
      hypercall(bed, bed.dom0, { op: 'increase_reservation', domid: 0, order: 0, count: bed.h.heap.freePages });
    expect(op(bed, 'offline', d.podSingle.first as number).statuses).toEqual([pageOffline.offlined]);
    expect([d.r.podCount, d.r.totPages]).toEqual([99, 99]);
    expectSound(bed);
  });

  it('a table page cannot be waited for, Xen’s own page is Xen’s, and what is no RAM is not taken', () => {
    const bed = bootTestbed({ heapRanges: [{ start: 0x100, end: 0x8000 }] });
    const { d } = ramGuest(bed, 1);
    const shared = (d.r.sharedInfo as number) - 1;
    expect(op(bed, 'offline', shared).statuses).toEqual([pageOffline.xenPage + pageOffline.pending + 0x7ff2 * 2 ** 16]);
    const table = d.pool.first as number;
    expect(op(bed, 'offline', table).statuses).toEqual([pageOffline.anonymous + pageOffline.failed + 0x7ff4 * 2 ** 16]);
    expect(op(bed, 'offline', 0x9000, 0x9001)).toEqual({
      rc: -errno.EINVAL,
      statuses: [pageOffline.failed | pageOffline.notConvRam, 0x01010101],
    });
    expect(op(bed, 'query', 0x9000).rc).toBe(-errno.EINVAL);
    expectSound(bed);
  });

  it('is refused to a guest, for a range that ends before it starts, and stops at the end of the host', () => {
    const bed = bootTestbed({ frames: 8192 });
    const { d } = ramGuest(bed, 1);
    expect(hypercall(bed, d, { op: 'page_offline_op', cmd: 'offline', start: 0, end: 0 }).rc).toBe(-errno.EPERM);
    expect(op(bed, 'offline', 5, 4).rc).toBe(-errno.EINVAL);
    expect(op(bed, 'offline', 5, 5 + 0x10000).rc).toBe(-errno.ENOMEM);
    expect(op(bed, 'offline', 8191, 8193)).toMatchObject({ rc: -errno.EINVAL, statuses: [2, 0x01010101, 0x01010101] });
  });
});
