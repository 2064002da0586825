import { describe, expect, it } from 'vitest';
import {
  bootTestbed,
  expectSound,
  hypercall,
  makeGuest,
  slice,
  type Testbed,
} from '../../test-support/hypercall-fixture.ts';
import { smallConfig } from '../../test-support/p2m-fixture.ts';
import { domainState } from '../domain/domain-record.ts';
import { DOMID_IO, sbdf } from '../frames/addresses.ts';
import { Host } from '../host.ts';
import { type CallOf, domInfoFlag, shutdownReason } from './calls.ts';
import { errno } from './errno.ts';

const wish: CallOf<'createdomain'> = {
  op: 'createdomain',
  domid: 0,
  name: 'x',
  hvm: true,
  hap: true,
  iommu: true,
  noSharept: false,
  vcpus: 2,
  deviceModel: true,
};
const create = (bed: Testbed, change: Partial<CallOf<'createdomain'>> = {}) =>
  hypercall(bed, bed.dom0, { ...wish, ...change });
const firstDevice = (bed: Testbed): number => bed.h.config.devices[0]?.sbdf ?? 0;

describe('createdomain', () => {
  it('gives increasing numbers and incarnations to paused domains without memory', () => {
    const bed = bootTestbed();
    const [a, b] = [create(bed), create(bed)];
    expect([a.rc, a.domid, b.domid]).toEqual([0, 1, 2]);
    expect(b.incarnation).toBeGreaterThan(a.incarnation ?? 0);
    const { info } = hypercall(bed, bed.dom0, { op: 'getdomaininfo', domid: 1 });
    expect(info).toMatchObject({ name: 'x', totPages: 0, maxPages: 0, onlineVcpus: 2 });
    expect((info?.flags ?? 0) & domInfoFlag.paused).not.toBe(0);
    expectSound(bed);
  });

  it('refuses flags that contradict each other or the host', () => {
    const bed = bootTestbed();
    expect(create(bed, { vcpus: 0 }).rc).toBe(-errno.EINVAL);
    expect(create(bed, { hvm: false }).rc).toBe(-errno.EINVAL);
    expect(create(bed, { iommu: false, noSharept: true }).rc).toBe(-errno.EINVAL);
    expect(create(bed, { domid: 0x7ff0 }).rc).toBe(-errno.EINVAL);
    expect(create(bed, { domid: 5 }).rc).toBe(0);
    expect(create(bed, { domid: 5 }).rc).toBe(-errno.EEXIST);
  });

  it('answers ENOMEM when slots or memory are out, and nothing half-made stays', () => {
    const bed = bootTestbed({ maxDomains: 2, frames: 2048 });
    const free = bed.h.heap.freePages;
    hypercall(bed, bed.dom0, { op: 'increase_reservation', domid: 0, order: 0, count: free - 100 });
    expect(create(bed).rc).toBe(-errno.ENOMEM);
    expect([bed.h.heap.freePages, bed.h.allDomains().length]).toEqual([100, 1]);
    expectSound(bed);
    const small = bootTestbed({ maxDomains: 2 });
    expect([create(small).rc, create(small).rc]).toEqual([0, -errno.ENOMEM]);
  });

  it('needs an IOMMU for the iommu flag', () => {
    const bed = bootTestbed({ iommuEnabled: false, units: [], devices: [] });
    expect(create(bed).rc).toBe(-errno.EINVAL);
    expect(create(bed, { iommu: false }).rc).toBe(0);
  });
});

describe('privilege', () => {
  it('no domctl answers a guest, whoever it names', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed);
    const { domid } = d;
    expect(hypercall(bed, d, wish).rc).toBe(-errno.EPERM);
    expect(hypercall(bed, d, { op: 'destroydomain', domid: 0 }).rc).toBe(-errno.EPERM);
    expect(hypercall(bed, d, { op: 'max_mem', domid, maxKb: 4 }).rc).toBe(-errno.EPERM);
    expect(hypercall(bed, d, { op: 'getdomaininfo', domid }).rc).toBe(-errno.EPERM);
    expect(hypercall(bed, d, { op: 'getdomaininfo', domid: 77 }).rc).toBe(-errno.EPERM);
    expect(hypercall(bed, d, { op: 'getdomaininfolist', first: 0, max: 9 }).rc).toBe(-errno.EPERM);
    expect(hypercall(bed, d, { op: 'assign_device', domid, sbdf: firstDevice(bed), flags: 0 }).rc).toBe(-errno.EPERM);
    expect(hypercall(bed, d, { op: 'assign_device', domid: DOMID_IO, sbdf: firstDevice(bed), flags: 0 }).rc).toBe(
      -errno.EPERM,
    );
    expect(hypercall(bed, d, { op: 'set_pod_target', domid, targetPages: 1 }).rc).toBe(-errno.EPERM);
    expect(hypercall(bed, d, { op: 'claim_pages', domid, pages: 1 }).rc).toBe(-errno.EPERM);
    expect(hypercall(bed, d, { op: 'physinfo' }).rc).toBe(-errno.EPERM);
    expect(hypercall(bed, d, { op: 'remote_shutdown', domid: 0, reason: 3 }).rc).toBe(-errno.EPERM);
    expect(hypercall(bed, bed.dom0, { op: 'max_mem', domid: 77, maxKb: 4 }).rc).toBe(-errno.ESRCH);
  });
});

describe('pause, shutdown and what xl list shows', () => {
  it('a paused guest’s calls wait, and pausing counts', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed);
    const { domid } = d;
    expect(hypercall(bed, bed.dom0, { op: 'pausedomain', domid }).rc).toBe(0);
    const outcome = slice(bed, d, { op: 'touch', frames: { start: 0, count: 1 } });
    expect(outcome).toMatchObject({ end: 'blocked', on: { on: 'unpause', domid } });
    expect(hypercall(bed, bed.dom0, { op: 'unpausedomain', domid }).rc).toBe(0);
    expect(hypercall(bed, d, { op: 'touch', frames: { start: 0, count: 1 } })).toMatchObject({ rc: 0, faulted: 1 });
    expect(hypercall(bed, bed.dom0, { op: 'unpausedomain', domid }).rc).toBe(-errno.EINVAL);
    expect(hypercall(bed, bed.dom0, { op: 'pausedomain', domid: 0 }).rc).toBe(-errno.EINVAL);
    for (let i = 0; i < 255; i++) expect(hypercall(bed, bed.dom0, { op: 'pausedomain', domid }).rc).toBe(0);
    expect(hypercall(bed, bed.dom0, { op: 'pausedomain', domid }).rc).toBe(-errno.EOVERFLOW);
  });

  it('the shutdown reason stands in bits 23:16, and the first one stays', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed);
    expect(hypercall(bed, d, { op: 'shutdown', reason: 9 }).rc).toBe(-errno.EINVAL);
    expect(hypercall(bed, d, { op: 'shutdown', reason: shutdownReason.reboot }).rc).toBe(0);
    hypercall(bed, bed.dom0, { op: 'remote_shutdown', domid: d.domid, reason: shutdownReason.crash });
    const flags = hypercall(bed, bed.dom0, { op: 'getdomaininfo', domid: d.domid }).info?.flags ?? 0;
    expect([(flags >> 16) & 0xff, flags & domInfoFlag.shutdown]).toEqual([shutdownReason.reboot, domInfoFlag.shutdown]);
    expect(hypercall(bed, bed.dom0, { op: 'getdomaininfolist', first: 1, max: 1 }).infos?.map((i) => i.domid)).toEqual([
      1,
    ]);
  });

  it('a guest’s console lines carry its number, one line each, nothing unprintable', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed);
    hypercall(bed, d, { op: 'console_io', text: 'HVM Loader\nbell\u0007\n' });
    expect(bed.log.lines.slice(-2)).toEqual([`(d${d.domid}) HVM Loader`, `(d${d.domid}) bell?`]);
  });
});

describe('max_mem and the paging pool', () => {
  it('max_mem may go below tot_pages: nothing is freed, new memory is refused', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed, { maxPages: 64 });
    const populate = (start: number) =>
      hypercall(bed, d, {
        op: 'populate_physmap',
        domid: d.domid,
        order: 0,
        memFlags: 0,
        extents: { start, count: 32 },
      }).rc;
    expect(populate(0)).toBe(32);
    expect(hypercall(bed, bed.dom0, { op: 'max_mem', domid: d.domid, maxKb: 40 }).rc).toBe(0);
    expect([populate(32), d.r.totPages]).toEqual([0, 32]);
  });

  it('the pool cannot shrink below its tables, nor grow beyond the host', () => {
    const bed = bootTestbed({ frames: 8192 });
    const d = makeGuest(bed);
    const size = (pages: number) =>
      hypercall(bed, bed.dom0, { op: 'set_paging_mempool_size', domid: d.domid, bytes: pages * 4096 }).rc;
    expect(size(0)).toBe(-errno.ENOMEM);
    expect(hypercall(bed, bed.dom0, { op: 'get_paging_mempool_size', domid: d.domid })).toEqual({ rc: 0, bytes: 4096 });
    expect(size(0.5)).toBe(-errno.EINVAL);
    bed.preempt = () => true;
    expect(size(5000)).toBe(0);
    expect(bed.slices).toBe(3);
    expect(size(1e6)).toBe(-errno.ENOMEM);
    expectSound(bed);
  });
});

describe('I/O memory', () => {
  const map = (bed: Testbed, domid: number, change: Partial<CallOf<'memory_mapping'>> = {}) =>
    hypercall(bed, bed.dom0, {
      op: 'memory_mapping',
      domid,
      firstGfn: 0xe0000,
      firstMfn: 0xf0000,
      nrMfns: 100,
      add: true,
      ...change,
    }).rc;

  it('maps 64 pieces a call and says how far it came; the caller loops', () => {
    const bed = bootTestbed();
    const { domid } = makeGuest(bed, { iommu: true });
    expect(map(bed, domid)).toBe(-errno.EPERM);
    hypercall(bed, bed.dom0, { op: 'iomem_permission', domid, firstMfn: 0xf0000, nrMfns: 100, allow: true });
    expect(map(bed, domid, { firstGfn: 0xe0001 })).toBe(64);
    expect(map(bed, domid, { firstGfn: 0xe0041, firstMfn: 0xf0040, nrMfns: 36 })).toBe(0);
    expect(map(bed, domid, { nrMfns: 0 })).toBe(-errno.EINVAL);
    expect(map(bed, domid, { firstGfn: 2 ** 36 - 4 })).toBe(-errno.EINVAL);
    expect(map(bed, domid, { firstGfn: 0xe0001, nrMfns: 64, add: false })).toBe(0);
    expect(map(bed, domid, { firstGfn: 0xe0001, nrMfns: 64, add: false })).toBe(-errno.EINVAL);
    hypercall(bed, bed.dom0, { op: 'iomem_permission', domid, firstMfn: 0xf0010, nrMfns: 1, allow: false });
    expect(map(bed, domid)).toBe(-errno.EPERM);
    expect(map(bed, domid, { nrMfns: 16 })).toBe(0);
    expectSound(bed);
  });
});

describe('claims', () => {
  const claim = (bed: Testbed, domid: number, pages: number) =>
    hypercall(bed, bed.dom0, { op: 'claim_pages', domid, pages }).rc;

  it('promises memory that others cannot take, and is consumed page by page', () => {
    const bed = bootTestbed({ frames: 16_384 });
    const [a, b] = [makeGuest(bed), makeGuest(bed)];
    const free = bed.h.heap.freePages;
    expect(claim(bed, a.domid, free - 10)).toBe(0);
    expect(claim(bed, a.domid, 20)).toBe(-errno.EINVAL);
    expect(claim(bed, b.domid, 11)).toBe(-errno.ENOMEM);
    const populate = (d: typeof a, count: number) =>
      hypercall(bed, d, { op: 'populate_physmap', domid: d.domid, order: 0, memFlags: 0, extents: { start: 0, count } })
        .rc;
    expect(populate(b, 20)).toBe(10);
    expect(populate(a, 100)).toBe(100);
    expect([a.r.outstandingPages, bed.h.heap.claimedPages]).toEqual([free - 110, free - 110]);
    expect(claim(bed, a.domid, 0)).toBe(0);
    expect(populate(b, 20)).toBe(20);
    expectSound(bed);
  });

  it('refuses sizes that make no sense', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed, { maxPages: 100 });
    hypercall(bed, d, {
      op: 'populate_physmap',
      domid: d.domid,
      order: 0,
      memFlags: 0,
      extents: { start: 0, count: 10 },
    });
    expect(claim(bed, d.domid, 10)).toBe(-errno.EINVAL);
    expect(claim(bed, d.domid, 101)).toBe(-errno.EINVAL);
    expect(claim(bed, 999, 10)).toBe(-errno.ESRCH);
    expect(claim(bed, d.domid, 100)).toBe(0);
    hypercall(bed, bed.dom0, { op: 'destroydomain', domid: d.domid });
    expect(bed.h.heap.claimedPages).toBe(0);
    expectSound(bed);
  });
});

describe('destroydomain', () => {
  it('gives every frame back, devices first, whether it is preempted at every check or never', () => {
    for (const preempt of [false, true]) {
      const bed = bootTestbed();
      const before = bed.h.heap.freePages;
      const d = makeGuest(bed, { iommu: true, maxPages: 8192, poolPages: 4096 });
      const extents = { start: 0, count: 8 };
      hypercall(bed, bed.dom0, { op: 'populate_physmap', domid: d.domid, order: 9, memFlags: 0, extents });
      hypercall(bed, d, { op: 'decrease_reservation', domid: d.domid, order: 0, extents: { frames: [1, 600, 1300] } });
      expect(
        hypercall(bed, bed.dom0, { op: 'assign_device', domid: d.domid, sbdf: firstDevice(bed), flags: 0 }).rc,
      ).toBe(0);
      bed.preempt = () => preempt;
      expect(hypercall(bed, bed.dom0, { op: 'destroydomain', domid: d.domid }).rc).toBe(0);
      expect(bed.slices > 1).toBe(preempt);
      expect([bed.h.heap.freePages, d.exists, d.r.deviceCount]).toEqual([before, false, 0]);
      expect(hypercall(bed, bed.dom0, { op: 'getdomaininfo', domid: d.domid }).rc).toBe(-errno.ESRCH);
      expectSound(bed);
    }
  });

  it('leaves a zombie while dom0 still maps a frame of it, and no longer', () => {
    const bed = bootTestbed();
    const before = bed.h.heap.freePages;
    const d = makeGuest(bed);
    hypercall(bed, d, {
      op: 'populate_physmap',
      domid: d.domid,
      order: 0,
      memFlags: 0,
      extents: { start: 0, count: 4 },
    });
    hypercall(bed, bed.dom0, {
      op: 'add_to_physmap_batch',
      domid: 0,
      space: 4,
      foreignDomid: d.domid,
      idxs: { start: 2, count: 1 },
      gpfns: { start: 0x40, count: 1 },
    });
    expect(hypercall(bed, bed.dom0, { op: 'destroydomain', domid: d.domid }).rc).toBe(0);
    expect([d.r.state, d.r.totPages]).toEqual([domainState.zombie, 1]);
    expectSound(bed);
    hypercall(bed, bed.dom0, { op: 'remove_from_physmap', domid: 0, gpfn: 0x40 });
    // dom0 keeps the I/O tables that its mapping needed.
    expect([d.exists, bed.h.heap.freePages]).toEqual([false, before - bed.dom0.r.iommuTables]);
    expectSound(bed);
  });

  it('answers EINVAL for the caller itself and ESRCH for nobody', () => {
    const bed = bootTestbed();
    expect(hypercall(bed, bed.dom0, { op: 'destroydomain', domid: 0 }).rc).toBe(-errno.EINVAL);
    expect(hypercall(bed, bed.dom0, { op: 'destroydomain', domid: 3 }).rc).toBe(-errno.ESRCH);
  });

  it('a domctl that finds the lock taken comes again instead of waiting', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed);
    // Another CPU holds it.
    const other = new Host(bed.h.shared, 1, bed.log);
    other.domctlLock.lock();
    expect(slice(bed, bed.dom0, { op: 'max_mem', domid: d.domid, maxKb: 4 })).toMatchObject({ end: 'continue' });
    other.domctlLock.unlock();
    expect(slice(bed, bed.dom0, { op: 'max_mem', domid: d.domid, maxKb: 4 })).toMatchObject({ end: 'done' });
  });
});

describe('devices of domains', () => {
  it('assign and deassign answer Xen’s errors', () => {
    const bed = bootTestbed();
    const [a, b, none] = [makeGuest(bed, { iommu: true }), makeGuest(bed, { iommu: true }), makeGuest(bed)];
    const sbdf = firstDevice(bed);
    const assign = (domid: number, flags = 0, device = sbdf) =>
      hypercall(bed, bed.dom0, { op: 'assign_device', domid, sbdf: device, flags }).rc;
    expect(assign(0)).toBe(-errno.EINVAL);
    expect(assign(a.domid, 2)).toBe(-errno.EINVAL);
    expect(assign(a.domid, 0, 0x12345)).toBe(-errno.ENODEV);
    expect(assign(none.domid)).toBe(-errno.EOPNOTSUPP);
    expect(assign(999)).toBe(-errno.ESRCH);
    expect(hypercall(bed, bed.dom0, { op: 'test_assign_device', domid: a.domid, sbdf }).rc).toBe(0);
    expect(assign(DOMID_IO)).toBe(0);
    expect(assign(a.domid)).toBe(0);
    expect(assign(b.domid)).toBe(-errno.EBUSY);
    expect(hypercall(bed, bed.dom0, { op: 'test_assign_device', domid: a.domid, sbdf }).rc).toBe(-errno.EINVAL);
    expect(hypercall(bed, bed.dom0, { op: 'getdomaininfo', domid: a.domid }).info?.devices).toEqual([sbdf]);
    expect(hypercall(bed, bed.dom0, { op: 'get_device_group', domid: a.domid, sbdf, max: 4 })).toEqual({
      rc: 0,
      sbdfs: [],
    });
    expect(hypercall(bed, bed.dom0, { op: 'deassign_device', domid: b.domid, sbdf }).rc).toBe(-errno.ENODEV);
    expect(hypercall(bed, bed.dom0, { op: 'deassign_device', domid: a.domid, sbdf }).rc).toBe(0);
    expect(hypercall(bed, bed.dom0, { op: 'deassign_device', domid: DOMID_IO, sbdf }).rc).toBe(0);
    expect(hypercall(bed, bed.dom0, { op: 'getdomaininfo', domid: 0 }).info?.devices).toEqual([sbdf]);
    expectSound(bed);
  });
});

describe('memory maps', () => {
  it('the toolstack sets a guest’s map, which then reads it; ENOSYS before', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed);
    const entries = [{ addr: 0, size: 0xa0000, type: 1 as const }];
    const set = (list: readonly object[]) =>
      hypercall(bed, bed.dom0, { op: 'set_memory_map', domid: d.domid, entries: list as typeof entries }).rc;
    expect(hypercall(bed, d, { op: 'memory_map' }).rc).toBe(-errno.ENOSYS);
    expect(set(new Array(1025).fill(entries[0]))).toBe(-errno.EINVAL);
    expect(set(new Array(1000).fill(entries[0]))).toBe(-errno.ENOMEM);
    expect(set([{ addr: -1, size: 1, type: 1 }])).toBe(-errno.EFAULT);
    expect(set(entries)).toBe(0);
    expect(hypercall(bed, d, { op: 'memory_map' })).toEqual({ rc: 0, entries });
    expect(hypercall(bed, d, { op: 'set_memory_map', domid: d.domid, entries }).rc).toBe(-errno.EPERM);
  });

  it('reserved regions: a short buffer is filled and answers ENOBUFS with the number required', () => {
    const [a, b, gone] = [sbdf(0, 0, 2, 0), sbdf(0, 0, 3, 0), sbdf(0, 0, 9, 0)];
    const rmrrs = [
      { startPfn: 0x8000, endPfn: 0x8003, devices: [a] },
      { startPfn: 0x9000, endPfn: 0x9000, devices: [a, b] },
      { startPfn: 0xa000, endPfn: 0xa000, devices: [gone] },
    ];
    const [first] = smallConfig().devices;
    if (!first) throw new Error('the small host has a device');
    const devices = [first, { ...first, sbdf: b }];
    const bed = bootTestbed({ rmrrs, devices, heapRanges: [{ start: 0x10, end: 0x8000 }] });
    const ask = (flags: number, sbdf: number, capacity: number) =>
      hypercall(bed, bed.dom0, { op: 'reserved_device_memory_map', flags, sbdf, capacity });
    expect(ask(1, 0, 1)).toEqual({ rc: -errno.ENOBUFS, entries: [{ startPfn: 0x8000, nrPages: 4 }], required: 2 });
    expect(ask(0, b, 4)).toEqual({ rc: 0, entries: [{ startPfn: 0x9000, nrPages: 1 }], required: 1 });
    expect(ask(0, a, 4).required).toBe(2);
    expect(ask(0, gone, 0)).toEqual({ rc: 0, entries: [], required: 0 });
    expect(ask(2, 0, 4).rc).toBe(-errno.EINVAL);
    const without = bootTestbed({ rmrrs, devices, iommuEnabled: false, units: [] });
    const all = { op: 'reserved_device_memory_map', flags: 1, sbdf: 0, capacity: 4 } as const;
    expect(hypercall(without, without.dom0, all)).toEqual({ rc: 0, entries: [], required: 0 });
  });

  it('PoD targets: counts come back, a target above max_pages or a PV domain is refused', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed, { maxPages: 1000 });
    const set = (targetPages: number) =>
      hypercall(bed, bed.dom0, { op: 'set_pod_target', domid: d.domid, targetPages });
    expect(set(700)).toEqual({ rc: 0, totPages: 700, podCachePages: 700, podEntries: 0 });
    expect(set(1001).rc).toBe(-errno.EINVAL);
    expect(set(-1).rc).toBe(-errno.EINVAL);
    expect(hypercall(bed, bed.dom0, { op: 'get_pod_target', domid: 999 }).rc).toBe(-errno.ESRCH);
    const pv = create(bed, { hvm: false, hap: false, iommu: false, deviceModel: false });
    expect(hypercall(bed, bed.dom0, { op: 'get_pod_target', domid: pv.domid ?? 0 }).rc).toBe(-errno.EINVAL);
    expect(hypercall(bed, d, { op: 'maximum_gpfn', domid: d.domid }).rc).toBe(0);
    expectSound(bed);
  });
});
