import { describe, expect, it } from 'vitest';
import { bootGranting, STATUS_GFN, showTable, storeTag, tagsOf } from '../../test-support/grant-fixture.ts';
import { expectSound, hypercall } from '../../test-support/hypercall-fixture.ts';
import { grantResource, resourceType } from './acquire-resource.ts';
import { physmapSpace } from './calls.ts';
import { errno } from './errno.ts';

const AT = 0x40;

function setUp() {
  const { bed, front, back } = bootGranting();
  const { domid } = front;
  const acquire = (type: number, id: number, frame: number, count: number, from = bed.dom0, to: number = domid) =>
    hypercall(bed, from, { op: 'acquire_resource', domid: to, type, id, frame, gfns: { start: AT, count } });
  const release = (count: number) => {
    for (let i = 0; i < count; i++) hypercall(bed, bed.dom0, { op: 'remove_from_physmap', domid: 0, gpfn: AT + i });
  };
  const id = hypercall(bed, bed.dom0, { op: 'create_ioreq_server', domid }).id ?? -1;
  return { bed, front, back, domid, acquire, release, id };
}

describe('acquire_resource', () => {
  it('shows the pages of an ioreq server, which outlive the server and its guest while they are mapped', () => {
    const { bed, front, domid, acquire, release, id } = setUp();
    expect(acquire(resourceType.ioreqServer, id, 0, 0)).toEqual({ rc: 0, size: 2 });
    expect(acquire(resourceType.ioreqServer, id, 0, 2).rc).toBe(0);
    storeTag(bed, bed.dom0, AT, 5);
    expect([tagsOf(bed, bed.dom0, AT), bed.dom0.r.nrForeign]).toEqual([[5], 2]);
    expectSound(bed);
    const total = front.r.totPages;
    expect(hypercall(bed, bed.dom0, { op: 'destroy_ioreq_server', domid, id }).rc).toBe(0);
    expect([tagsOf(bed, bed.dom0, AT), front.r.totPages]).toEqual([[5], total]);
    expectSound(bed);
    const free = bed.h.heap.freePages;
    release(1);
    expect(bed.h.heap.freePages).toBe(free + 1);
    expect(hypercall(bed, bed.dom0, { op: 'destroydomain', domid }).rc).toBe(0);
    expectSound(bed);
    release(2);
    expectSound(bed);
  });

  it('shows a grant table, shared frames and status frames, to whoever builds the guest', () => {
    const { bed, front, acquire, release } = setUp();
    const { grantTable } = resourceType;
    expect(acquire(grantTable, grantResource.shared, 0, 0).size).toBe(4);
    expect(acquire(grantTable, grantResource.shared, 1, 2).rc).toBe(0);
    expect(bed.h.grants.of(front).frames).toBe(3);
    expect(acquire(grantTable, grantResource.status, 0, 1).rc).toBe(-errno.EINVAL); // version 1
    expectSound(bed);
    expect(hypercall(bed, bed.dom0, { op: 'destroydomain', domid: front.domid }).rc).toBe(0);
    expectSound(bed);
    release(2);
    expectSound(bed);
  });

  it('a status frame that somebody else has mapped cannot be freed: the guest that changes its version is crashed (XSA-384)', () => {
    const { bed, front, acquire, release } = setUp();
    hypercall(bed, front, { op: 'gnttab_set_version', version: 2 });
    showTable(bed, front, 2 ** 31, STATUS_GFN);
    expect(acquire(resourceType.grantTable, grantResource.status, 0, 1).rc).toBe(0);
    expect(hypercall(bed, front, { op: 'gnttab_set_version', version: 1 }).rc).toBe(-errno.EBUSY);
    expect(front.crashed).toBe(true);
    release(1);
    expectSound(bed);
  });

  it('answers Xen’s errors, and shows nothing', () => {
    const { bed, front, back, domid, acquire, id } = setUp();
    const { ioreqServer, grantTable } = resourceType;
    expect(acquire(ioreqServer, id, 0, 1, bed.dom0, 999).rc).toBe(-errno.ESRCH);
    expect(acquire(ioreqServer, id, 0, 1, bed.dom0, 0).rc).toBe(-errno.EPERM);
    expect(acquire(ioreqServer, id, 0, 1, back, domid).rc).toBe(-errno.EPERM);
    expect(acquire(ioreqServer, 5, 0, 1).rc).toBe(-errno.ENOENT);
    expect(acquire(ioreqServer, id, 1, 2).rc).toBe(-errno.EINVAL);
    expect(acquire(7, 0, 0, 1).rc).toBe(-errno.EOPNOTSUPP);
    expect(acquire(grantTable, 9, 0, 1).rc).toBe(-errno.EOPNOTSUPP);
    expect(acquire(grantTable, 0, 4, 1).rc).toBe(-errno.EINVAL);
    const beyond = { op: 'acquire_resource', domid, type: grantTable, id: 0, frame: 0 } as const;
    expect(hypercall(bed, bed.dom0, { ...beyond, gfns: { frames: [AT, 2 ** 37] } }).rc).toBe(-errno.EIO);
    hypercall(bed, bed.dom0, { op: 'remove_from_physmap', domid: 0, gpfn: AT });
    expect(bed.dom0.r.nrForeign).toBe(0);
    // what is shown is nobody's to pass on
    acquire(ioreqServer, id, 0, 1);
    const on = {
      op: 'add_to_physmap_batch',
      domid: back.domid,
      space: physmapSpace.gmfnForeign,
      foreignDomid: 0,
    } as const;
    const one = { start: AT, count: 1 };
    expect(hypercall(bed, bed.dom0, { ...on, idxs: one, gpfns: { start: 0x3000, count: 1 } }).errs).toEqual([
      -errno.EINVAL,
    ]);
    expect(front.crashed).toBe(false);
    expectSound(bed);
  });
});
