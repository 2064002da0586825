import { describe, expect, it } from 'vitest';
import {
  bootGranting,
  type EntrySpec,
  endEntry,
  FIRST_REF,
  mapRef,
  RAM,
  STATUS_GFN,
  showTable,
  storeTag,
  TABLE_GFN,
  tagsOf,
  unmapRef,
  writeEntry,
} from '../../test-support/grant-fixture.ts';
import { expectSound, hypercall, makeGuest } from '../../test-support/hypercall-fixture.ts';
import { gtf } from '../grant/shared-entry.ts';
import { gntcopy, gntmap, gntst } from '../grant/status.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { p2mType } from '../p2m/types.ts';
import { errno } from './errno.ts';
import { MAX_GRANT_OPS } from './grant-op.ts';

const AT = 0x4000;
const REF = FIRST_REF;
const { readonly } = gntmap;

describe('grant map and unmap', () => {
  it('shows the granting domain’s frame at the mapper’s gfn, and takes it away again', () => {
    const { bed, front, back } = bootGranting();
    expect(writeEntry(bed, front, { ref: REF, to: back, gfn: 5 })).toBe(0);
    const { status, handle } = mapRef(bed, back, front, REF, AT);
    expect([status, handle]).toEqual([gntst.okay, 1]);
    expect(tagsOf(bed, back, AT)).toEqual([6]);
    storeTag(bed, back, AT, 99);
    expect(tagsOf(bed, front, 5)).toEqual([99]);
    expectSound(bed);
    expect(unmapRef(bed, back, handle, AT)).toBe(gntst.okay);
    expect(tagsOf(bed, back, AT)).toEqual([-1]);
    expect(endEntry(bed, front, REF)).toBe(0);
    expectSound(bed);
    expect(bed.log.violations).toEqual([]);
  });

  it('marks the entry while it is mapped, and its owner cannot withdraw it before', () => {
    const { bed, front, back } = bootGranting();
    writeEntry(bed, front, { ref: REF, to: back, gfn: 5 });
    const { handle } = mapRef(bed, back, front, REF, AT, gntmap.host | readonly);
    const query = () => hypercall(bed, front, { op: 'grant_entry_query', gfn: TABLE_GFN, index: REF, version: 1 });
    expect(query()).toEqual({ rc: 0, flags: gtf.permitAccess | gtf.reading, inUse: true });
    const writable = mapRef(bed, back, front, REF, AT + 1);
    expect(query().flags).toBe(gtf.permitAccess | gtf.reading | gtf.writing);
    expect(endEntry(bed, front, REF)).toBe(-errno.EBUSY);
    expect(unmapRef(bed, back, writable.handle, AT + 1)).toBe(gntst.okay);
    expect(query().flags).toBe(gtf.permitAccess | gtf.reading);
    expect(unmapRef(bed, back, handle, AT)).toBe(gntst.okay);
    expect(endEntry(bed, front, REF)).toBe(0);
    expectSound(bed);
  });

  it('a read-only mapping takes no write: it is discarded', () => {
    const { bed, front, back } = bootGranting();
    writeEntry(bed, front, { ref: REF, to: back, gfn: 5, flags: gtf.permitAccess | gtf.readonly });
    expect(mapRef(bed, back, front, REF, AT).status).toBe(gntst.generalError);
    expect(mapRef(bed, back, front, REF, AT, gntmap.host | readonly).status).toBe(gntst.okay);
    storeTag(bed, back, AT, 77);
    expect(tagsOf(bed, front, 5)).toEqual([6]);
    expectSound(bed);
  });

  it('keeps a frame that its owner balloons out: it is free when the mapping ends, not before', () => {
    const { bed, front, back } = bootGranting();
    writeEntry(bed, front, { ref: REF, to: back, gfn: 5 });
    const { handle } = mapRef(bed, back, front, REF, AT);
    const free = bed.h.heap.freePages;
    const extents = { start: 5, count: 1 };
    expect(hypercall(bed, front, { op: 'decrease_reservation', domid: front.domid, order: 0, extents }).rc).toBe(1);
    expect([front.r.totPages, bed.h.heap.freePages]).toEqual([RAM, free]);
    expect(tagsOf(bed, back, AT)).toEqual([6]);
    unmapRef(bed, back, handle, AT);
    expect([front.r.totPages, bed.h.heap.freePages]).toEqual([RAM - 1, free + 1]);
    expectSound(bed);
  });

  it('unmaps a batch with one flush of the CPUs for every 32 operations', () => {
    const { bed, front, back } = bootGranting();
    const count = 64;
    for (let i = 0; i < count; i++) writeEntry(bed, front, { ref: REF + i, to: back, gfn: i % RAM });
    const maps = Array.from({ length: count }, (_, i) => ({
      hostAddr: (AT + i) * 4096,
      flags: gntmap.host,
      ref: REF + i,
      domid: front.domid,
    }));
    const { results } = hypercall(bed, back, { op: 'gnttab_map_grant_ref', ops: maps });
    const ops = (results ?? []).map(({ handle }, i) => ({ hostAddr: (AT + i) * 4096, devBusAddr: 0, handle }));
    const flushes = bed.h.counters.read('cpu.flush');
    const { statuses } = hypercall(bed, back, { op: 'gnttab_unmap_grant_ref', ops });
    expect(statuses).toEqual(ops.map(() => gntst.okay));
    expect(bed.h.counters.read('cpu.flush') - flushes).toBe(2);
    expectSound(bed);
  });

  it('a batch that is cut at every check ends as one in one piece', () => {
    const outcomes = [false, true].map((preempt) => {
      const { bed, front, back } = bootGranting();
      bed.preempt = () => preempt;
      for (let i = 0; i < 40; i++) writeEntry(bed, front, { ref: REF + i, to: i % 3 === 0 ? front : back, gfn: i });
      const maps = Array.from({ length: 40 }, (_, i) => ({
        hostAddr: (AT + i) * 4096,
        flags: gntmap.host,
        ref: REF + i,
        domid: front.domid,
      }));
      const mapped = hypercall(bed, back, { op: 'gnttab_map_grant_ref', ops: maps });
      const ops = (mapped.results ?? []).map(({ handle }, i) => ({ hostAddr: (AT + i) * 4096, devBusAddr: 0, handle }));
      const unmapped = hypercall(bed, back, { op: 'gnttab_unmap_grant_ref', ops });
      expectSound(bed);
      return { mapped, unmapped };
    });
    expect(outcomes[1]).toEqual(outcomes[0]);
  });

  it('answers Xen’s status for each wrong operation, and nothing changes', () => {
    const { bed, front, back } = bootGranting();
    const third = makeGuest(bed);
    writeEntry(bed, front, { ref: REF, to: back, gfn: 5 });
    writeEntry(bed, front, { ref: REF + 1, to: back, gfn: 0x7777 }); // nothing there
    writeEntry(bed, front, { ref: REF + 2, to: back, gfn: TABLE_GFN }); // a page of Xen's
    writeEntry(bed, front, { ref: REF + 3, to: back, gfn: 5, flags: gtf.acceptTransfer });
    const status = (ref: number, flags: number = gntmap.host, from = front, by = back, gfn = AT) =>
      mapRef(bed, by, from, ref, gfn, flags).status;
    expect(status(REF, readonly)).toBe(gntst.badGntref); // neither host nor device
    expect(status(REF, gntmap.host | gntmap.device)).toBe(gntst.generalError); // an HVM mapper has no device part
    expect(status(REF, gntmap.host | gntmap.containsPte)).toBe(gntst.generalError);
    expect(status(999_999)).toBe(gntst.badGntref);
    expect(status(REF, gntmap.host, front, third)).toBe(gntst.generalError); // granted to somebody else
    expect(status(REF + 3)).toBe(gntst.generalError);
    expect(status(REF + 9)).toBe(gntst.generalError); // an empty entry
    expect(status(REF + 1)).toBe(gntst.badPage);
    expect(status(REF + 2)).toBe(gntst.badPage);
    const raw = (hostAddr: number, domid: number) =>
      hypercall(bed, back, { op: 'gnttab_map_grant_ref', ops: [{ hostAddr, flags: 2, ref: REF, domid }] }).results?.[0];
    expect(raw(AT * 4096, 555)?.status).toBe(gntst.badDomain);
    expect(raw(AT * 4096 + 8, front.domid)?.status).toBe(gntst.generalError);
    expect(raw(2 ** 50, front.domid)?.status).toBe(gntst.generalError);
    expect(endEntry(bed, front, REF)).toBe(0);
    expectSound(bed);
  });

  it('answers bad_handle for handles of nobody, of others and of yesterday, and for others’ gfns nothing is unmapped', () => {
    const { bed, front, back } = bootGranting();
    writeEntry(bed, front, { ref: REF, to: back, gfn: 5 });
    const { handle } = mapRef(bed, back, front, REF, AT);
    for (const wrong of [0, 2, 77, 0xffff_ffff]) expect(unmapRef(bed, back, wrong, AT)).toBe(gntst.badHandle);
    expect(unmapRef(bed, front, handle, AT)).toBe(gntst.badHandle);
    expect(unmapRef(bed, back, handle, AT + 1)).toBe(gntst.generalError);
    expect(unmapRef(bed, back, handle, 3)).toBe(gntst.generalError);
    expect(unmapRef(bed, back, handle, 0)).toBe(gntst.okay); // names no part: nothing is done (XSA-224)
    expectSound(bed);
    expect(tagsOf(bed, back, AT)).toEqual([6]);
    expect(unmapRef(bed, back, handle, AT)).toBe(gntst.okay);
    expect(unmapRef(bed, back, handle, AT)).toBe(gntst.badHandle);
    expectSound(bed);
  });

  it('refuses a list that cannot be read, or is too long', () => {
    const { bed, back } = bootGranting();
    const op = { hostAddr: 0, flags: 2, ref: 0, domid: 0 };
    const call = (ops: unknown) => hypercall(bed, back, { op: 'gnttab_map_grant_ref', ops } as never).rc;
    expect(call(null)).toBe(-errno.EFAULT);
    expect(call([null])).toBe(-errno.EFAULT);
    expect(call(Array.from({ length: MAX_GRANT_OPS + 1 }, () => op))).toBe(-errno.EINVAL);
  });

  it('the map-track is finite: no_space, and a handle given back is given out again', () => {
    const { bed, front, back } = bootGranting();
    writeEntry(bed, front, { ref: REF, to: back, gfn: 5 });
    const handles = Array.from({ length: 255 }, (_, i) => mapRef(bed, back, front, REF, AT + i).handle);
    expect(mapRef(bed, back, front, REF, AT + 255).status).toBe(gntst.noSpace);
    unmapRef(bed, back, handles[9] as number, AT + 9);
    expect(mapRef(bed, back, front, REF, AT + 300)).toMatchObject({ status: gntst.okay, handle: handles[9] });
    expectSound(bed);
  });

  it('over RAM leaves the old frame an orphan; over another grant the mapper is crashed', () => {
    const { bed, front, back } = bootGranting();
    writeEntry(bed, front, { ref: REF, to: back, gfn: 5 });
    expect(mapRef(bed, back, front, REF, 7).status).toBe(gntst.okay);
    expect([back.r.totPages, tagsOf(bed, back, 7)]).toEqual([RAM, [6]]);
    expectSound(bed);
    expect(mapRef(bed, back, front, REF, 7).status).toBe(gntst.generalError);
    expect(back.crashed).toBe(true);
    expectSound(bed);
  });

  it('a mapped grant is nobody else’s to use: not to grant on, not to map, not to balloon out', () => {
    const { bed, front, back } = bootGranting();
    writeEntry(bed, front, { ref: REF, to: back, gfn: 5 });
    mapRef(bed, back, front, REF, AT);
    writeEntry(bed, back, { ref: REF, to: front, gfn: AT });
    expect(mapRef(bed, front, back, REF, AT).status).toBe(gntst.badPage);
    const { domid } = back;
    const foreign = {
      domid: 0,
      space: 4,
      foreignDomid: domid,
      idxs: { start: AT, count: 1 },
      gpfns: { start: 9, count: 1 },
    };
    expect(hypercall(bed, bed.dom0, { op: 'add_to_physmap_batch', ...foreign }).errs).toEqual([-errno.EINVAL]);
    const extents = { start: AT, count: 1 };
    expect(hypercall(bed, back, { op: 'decrease_reservation', domid, order: 0, extents }).rc).toBe(0);
    expect(hypercall(bed, back, { op: 'remove_from_physmap', domid, gpfn: AT }).rc).toBe(-errno.ENOENT);
    expect(tagsOf(bed, back, AT)).toEqual([6]);
    expectSound(bed);
  });

  it('says so when a pinned entry names a frame that its owner has lost (XSA-236)', () => {
    const { bed, front, back } = bootGranting();
    writeEntry(bed, front, { ref: REF, to: back, gfn: 5 });
    mapRef(bed, back, front, REF, AT);
    bed.h.frames.count[peekEntry(bed.h, front, 5, new Leaf())] = 0;
    expect(mapRef(bed, back, front, REF, AT + 1).status).toBe(gntst.generalError);
    expect(bed.log.violations.map(({ invariant }) => invariant)).toEqual(['pinnedImpliesReferenced']);
  });

  it('of a PoD page populates it first', () => {
    const { bed, front, back } = bootGranting();
    const pod = 1 << 16;
    const { domid } = front;
    const extents = { start: 0x100, count: 8 };
    hypercall(bed, bed.dom0, { op: 'populate_physmap', domid, order: 0, memFlags: pod, extents });
    hypercall(bed, bed.dom0, { op: 'set_pod_target', domid, targetPages: RAM + 4 });
    writeEntry(bed, front, { ref: REF, to: back, gfn: 0x102 });
    expect(mapRef(bed, back, front, REF, AT).status).toBe(gntst.okay);
    storeTag(bed, back, AT, 5);
    expect(tagsOf(bed, front, 0x102)).toEqual([5]);
    expectSound(bed);
  });
});

describe('a PV mapper', () => {
  it('maps host and device parts, which come apart one by one, whatever the unmap names (XSA-224)', () => {
    const { bed, front } = bootGranting();
    const pv = hypercall(bed, bed.dom0, {
      op: 'createdomain',
      domid: 0,
      name: 'pv',
      hvm: false,
      hap: false,
      iommu: false,
      noSharept: false,
      deviceModel: false,
      vcpus: 1,
    }).domid as number;
    hypercall(bed, bed.dom0, { op: 'unpausedomain', domid: pv });
    const d = bed.h.domain(pv);
    if (!d) throw new Error('no PV domain');
    writeEntry(bed, front, { ref: REF, to: d, gfn: 5 });
    const { status, handle, devBusAddr } = mapRef(bed, d, front, REF, 0x10, gntmap.host | gntmap.device);
    const mfn = peekEntry(bed.h, front, 5, new Leaf());
    expect([status, devBusAddr, bed.h.frames.count[mfn]]).toEqual([gntst.okay, mfn * 4096, 3]);
    const unmap = (hostAddr: number, bus: number) =>
      hypercall(bed, d, { op: 'gnttab_unmap_grant_ref', ops: [{ hostAddr, devBusAddr: bus, handle }] }).statuses?.[0];
    expect(unmap(0, 0)).toBe(gntst.okay);
    expect(unmap(0, devBusAddr + 4096)).toBe(gntst.badDevAddr);
    expect(bed.h.frames.count[mfn]).toBe(3);
    expectSound(bed);
    expect([unmap(0, devBusAddr), bed.h.frames.count[mfn]]).toEqual([gntst.okay, 2]);
    expect([unmap(0, devBusAddr), bed.h.frames.count[mfn]]).toEqual([gntst.okay, 2]);
    expectSound(bed);
    expect([unmap(0x10_000, 0), bed.h.frames.count[mfn]]).toEqual([gntst.okay, 1]);
    expect(unmap(0x10_000, 0)).toBe(gntst.badHandle);
    expectSound(bed);
  });
});

describe('death of a domain with grants mapped', () => {
  it('of the mapper gives the frames back to the granting domain first of all', () => {
    const { bed, front, back } = bootGranting();
    for (let i = 0; i < 20; i++) {
      writeEntry(bed, front, { ref: REF + i, to: back, gfn: i });
      mapRef(bed, back, front, REF + i, AT + i * 3);
    }
    expect(hypercall(bed, bed.dom0, { op: 'destroydomain', domid: back.domid }).rc).toBe(0);
    expect(back.exists).toBe(false);
    for (let i = 0; i < 20; i++) expect(endEntry(bed, front, REF + i)).toBe(0);
    expectSound(bed);
  });

  it('of the granting domain leaves a zombie until the mapper lets go', () => {
    const { bed, front, back } = bootGranting();
    writeEntry(bed, front, { ref: REF, to: back, gfn: 5 });
    const { handle } = mapRef(bed, back, front, REF, AT);
    const { domid } = front;
    expect(hypercall(bed, bed.dom0, { op: 'destroydomain', domid }).rc).toBe(0);
    expect([front.exists, front.r.totPages]).toEqual([true, 1]);
    expectSound(bed);
    expect(tagsOf(bed, back, AT)).toEqual([6]);
    expect(unmapRef(bed, back, handle, AT)).toBe(gntst.okay);
    expect([front.exists, bed.h.domain(domid)]).toEqual([false, null]);
    expectSound(bed);
  });
});

describe('grant copy', () => {
  const copy = (from: object, to: object, length = 4096, flags = 0) => [
    {
      sourceDomid: 0x7ff0,
      sourceFrame: 3,
      sourceOffset: 0,
      destDomid: 0x7ff0,
      destFrame: 9,
      destOffset: 0,
      length,
      flags,
      ...from,
      ...to,
    },
  ];

  it('carries contents from and to grants, without a mapping, and leaves no pin', () => {
    const { bed, front, back } = bootGranting();
    const { domid } = front;
    writeEntry(bed, front, { ref: REF, to: back, gfn: 5, flags: gtf.permitAccess | gtf.readonly });
    writeEntry(bed, front, { ref: REF + 1, to: back, gfn: 6 });
    const { sourceGref, destGref } = gntcopy;
    const run = (ops: ReturnType<typeof copy>) => hypercall(bed, back, { op: 'gnttab_copy', ops }).statuses;
    expect(run(copy({ sourceDomid: domid, sourceFrame: REF }, {}, 4096, sourceGref))).toEqual([gntst.okay]);
    expect(tagsOf(bed, back, 9)).toEqual([6]);
    expect(run(copy({}, { destDomid: domid, destFrame: REF + 1 }, 100, destGref))).toEqual([gntst.okay]);
    expect(tagsOf(bed, front, 6)).toEqual([4]);
    // wrong ones
    expect(run(copy({}, { destDomid: domid, destFrame: REF }, 100, destGref))).toEqual([gntst.generalError]);
    expect(run(copy({ sourceDomid: domid }, {}))).toEqual([gntst.permissionDenied]);
    expect(run(copy({ sourceDomid: 444 }, {}, 4096, sourceGref))).toEqual([gntst.badDomain]);
    expect(run(copy({ sourceFrame: 0x5555 }, {}))).toEqual([gntst.badPage]);
    expect(run(copy({ sourceOffset: 1 }, {}, 4096))).toEqual([gntst.badCopyArg]);
    expect(run(copy({ sourceDomid: domid, sourceFrame: 99_999 }, {}, 8, sourceGref))).toEqual([gntst.badGntref]);
    expect(run(copy({ sourceFrame: 0x5555 }, {}, 0))).toEqual([gntst.okay]);
    for (const ref of [REF, REF + 1]) expect(endEntry(bed, front, ref)).toBe(0);
    expectSound(bed);
  });

  it('transfer is refused: a page of an HVM guest cannot be stolen', () => {
    const { bed, front, back } = bootGranting();
    const ops = [3, 0x5555].map((gfn) => ({ gfn, domid: front.domid, ref: REF }));
    expect(hypercall(bed, back, { op: 'gnttab_transfer', ops })).toEqual({
      rc: 0,
      statuses: [gntst.generalError, gntst.badPage],
    });
    expectSound(bed);
  });
});

describe('the table', () => {
  it('grows on demand and not beyond its limit; a query tells its size', () => {
    const { bed, front, back } = bootGranting();
    const size = (from = front, domid: number = front.domid) =>
      hypercall(bed, from, { op: 'gnttab_query_size', domid });
    expect(size()).toEqual({ rc: 0, status: gntst.okay, nrFrames: 1, maxFrames: 4 });
    expect(showTable(bed, front, 2, TABLE_GFN + 2)).toBe(0);
    expect(size(bed.dom0)).toMatchObject({ nrFrames: 3 });
    expect(showTable(bed, front, 4, TABLE_GFN + 3)).toBe(-errno.EINVAL);
    expect(showTable(bed, front, 2 ** 31, STATUS_GFN)).toBe(-errno.EINVAL); // version 1 has no status frames
    expect(size(back).status).toBe(gntst.permissionDenied);
    expect(size(back, 333).status).toBe(gntst.badDomain);
    const setup = (nrFrames: number) => hypercall(bed, front, { op: 'gnttab_setup_table', domid: 0x7ff0, nrFrames });
    expect(setup(3).frames).toEqual([TABLE_GFN, 2 ** 36 - 1, TABLE_GFN + 2]);
    expect(setup(5).status).toBe(gntst.generalError);
    expectSound(bed);
  });

  it('changes its version when nothing is mapped; status frames come and go, wherever they are shown (XSA-384)', () => {
    const { bed, front, back } = bootGranting();
    const set = (version: number) => hypercall(bed, front, { op: 'gnttab_set_version', version });
    writeEntry(bed, front, { ref: REF, to: back, gfn: 5 });
    const { handle } = mapRef(bed, back, front, REF, AT);
    expect(set(2)).toEqual({ rc: -errno.EBUSY, version: 1 });
    expect(set(3)).toEqual({ rc: -errno.EINVAL, version: 1 });
    unmapRef(bed, back, handle, AT);
    expect(set(2)).toEqual({ rc: 0, version: 2 });
    expect(mapRef(bed, back, front, REF, AT).status).toBe(gntst.generalError); // entries start empty
    expect(showTable(bed, front, 2 ** 31, STATUS_GFN)).toBe(0);
    expect(writeEntry(bed, front, { ref: REF, to: back, gfn: 5, version: 2 })).toBe(0);
    const again = mapRef(bed, back, front, REF, AT);
    expect([again.status, tagsOf(bed, back, AT)]).toEqual([gntst.okay, [6]]);
    expect(endEntry(bed, front, REF, 2)).toBe(-errno.EBUSY);
    // Withdrawn, but in use for writing: as in Xen nobody looks at the entry again until the last pin is gone.
    const late = mapRef(bed, back, front, REF, AT + 1);
    expect(late.status).toBe(gntst.okay);
    unmapRef(bed, back, late.handle, AT + 1);
    expectSound(bed);
    unmapRef(bed, back, again.handle, AT);
    expect(set(1)).toEqual({ rc: 0, version: 1 });
    expect(tagsOf(bed, front, STATUS_GFN)).toEqual([-1]);
    expectSound(bed);
  });

  it('version 2 grants parts of a page, and passes grants on, to copies only', () => {
    const { bed, front, back } = bootGranting();
    const third = makeGuest(bed);
    hypercall(bed, bed.dom0, {
      op: 'populate_physmap',
      domid: third.domid,
      order: 0,
      memFlags: 0,
      extents: { start: 0, count: 4 },
    });
    const v2 = (d: typeof front) => hypercall(bed, d, { op: 'gnttab_set_version', version: 2 }).rc;
    expect([v2(front), v2(back)]).toEqual([0, 0]);
    const flags = gtf.permitAccess | gtf.subPage;
    writeEntry(bed, front, { ref: REF, to: back, gfn: 5, version: 2, flags, start: 512, length: 1024 });
    expect(mapRef(bed, back, front, REF, AT).status).toBe(gntst.generalError);
    const copyFrom = (d: typeof back, from: typeof front, offset: number, length: number) =>
      hypercall(bed, d, {
        op: 'gnttab_copy',
        ops: [
          {
            sourceDomid: from.domid,
            sourceFrame: REF,
            sourceOffset: offset,
            destDomid: 0x7ff0,
            destFrame: 2,
            destOffset: 0,
            length,
            flags: gntcopy.sourceGref,
          },
        ],
      }).statuses?.[0];
    expect(copyFrom(back, front, 0, 100)).toBe(gntst.generalError);
    expect(copyFrom(back, front, 600, 1000)).toBe(gntst.generalError);
    expect(copyFrom(back, front, 512, 1024)).toBe(gntst.okay);
    // back passes its grant on to the third
    const transitive: Partial<EntrySpec> = {
      version: 2,
      flags: gtf.transitive,
      transDomid: front.domid,
      transRef: REF,
    };
    writeEntry(bed, back, { ref: REF, to: third, gfn: 0, ...transitive });
    expect(copyFrom(third, back, 512, 1024)).toBe(gntst.okay);
    expect(tagsOf(bed, third, 2)).toEqual([6]);
    expect(mapRef(bed, third, back, REF, AT).status).toBe(gntst.generalError);
    writeEntry(bed, back, { ref: REF, to: third, gfn: 0, ...transitive, transDomid: back.domid });
    expect(copyFrom(third, back, 512, 1024)).toBe(gntst.generalError); // a ring
    for (const [d, ref] of [
      [front, REF],
      [back, REF],
    ] as const)
      expect(endEntry(bed, d, ref, 2)).toBe(0);
    expectSound(bed);
  });

  it('a status frame cannot be freed under a mapping that is being made: it is shown with the table held (XSA-486)', () => {
    const { bed, front } = bootGranting();
    hypercall(bed, front, { op: 'gnttab_set_version', version: 2 });
    for (let round = 0; round < 3; round++) {
      expect(showTable(bed, front, 2 ** 31, STATUS_GFN + round)).toBe(0);
      const leaf = new Leaf();
      peekEntry(bed.h, front, STATUS_GFN + round, leaf);
      expect([leaf.type, bed.h.frames.ownerOf(leaf.mfn)]).toEqual([p2mType.ramRw, front.domid]);
    }
    hypercall(bed, front, { op: 'gnttab_set_version', version: 1 });
    expect(tagsOf(bed, front, STATUS_GFN, 3)).toEqual([-1, -1, -1]);
    expectSound(bed);
  });

  it('what a guest writes elsewhere than to a grant frame is no entry', () => {
    const { bed, front, back } = bootGranting();
    const set = (gfn: number, index: number, version = 1) =>
      hypercall(bed, front, {
        op: 'grant_entry_set',
        gfn,
        index,
        version,
        flags: 1,
        domid: back.domid,
        frame: 1,
        start: 0,
        length: 0,
        transDomid: 0,
        transRef: 0,
      }).rc;
    expect(set(3, REF)).toBe(-errno.EFAULT);
    expect(set(0x7000, REF)).toBe(-errno.EFAULT);
    expect(set(TABLE_GFN, 512)).toBe(-errno.EINVAL);
    expect(set(TABLE_GFN, 0, 7)).toBe(-errno.EINVAL);
    expectSound(bed);
  });
});
