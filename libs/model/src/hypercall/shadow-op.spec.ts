import fc from 'fast-check';
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
import { type Mfn, sbdf } from '../frames/addresses.ts';
import { DIRTY_SLICE } from '../p2m/dirty-bitmap.ts';
import { p2mLogDirtyGlobal } from '../p2m/recalc.ts';
import { SHADOW_ENABLE_LOG_DIRTY, SHADOW_LOGDIRTY_FINAL, shadowOp, XENMEMF_populate_on_demand } from './calls.ts';
import { errno } from './errno.ts';

const GPU = sbdf(0, 0, 2, 0);

function shadow(bed: Testbed, d: Domain, sop: number, rest: { mode?: number; pages?: number; mb?: number } = {}) {
  const { mode = 0, pages = 0, mb = 0 } = rest;
  return hypercall(bed, bed.dom0, { op: 'shadow_op', domid: d.domid, sop, mode, pages, copy: true, mb });
}

const populate = (bed: Testbed, d: Domain, start: number, count: number, order = 0, memFlags = 0): void => {
  const extents = { start, count };
  const { rc } = hypercall(bed, bed.dom0, { op: 'populate_physmap', domid: d.domid, order, memFlags, extents });
  expect(rc).toBe(count);
};

const store = (bed: Testbed, d: Domain, frames: readonly number[]): void => {
  expect(hypercall(bed, d, { op: 'store', frames: { frames }, tag: 7 }).rc).toBe(0);
};

const gfnsOf = (bitmap: readonly number[] = []): number[] =>
  bitmap.flatMap((word, i) =>
    Array.from({ length: 32 }, (_, bit) => i * 32 + bit).filter((_, bit) => Math.floor(word / 2 ** bit) % 2 === 1),
  );

function guestWithRam(bed: Testbed, iommu = false): Domain {
  const d = makeGuest(bed, { iommu });
  populate(bed, d, 0, 2, 9);
  populate(bed, d, 1024, 40);
  return d;
}

describe('log-dirty mode', () => {
  it('shows exactly the pages written since the last clean, superpages or not; reading and peeking change nothing', () => {
    const bed = bootTestbed();
    const d = guestWithRam(bed);
    store(bed, d, [3, 600, 1030]);
    expect(shadow(bed, d, shadowOp.enableLogdirty).rc).toBe(0);
    expect(gfnsOf(shadow(bed, d, shadowOp.peek, { pages: 2048 }).bitmap)).toEqual([]);
    store(bed, d, [5, 700, 1031, 5]);
    hypercall(bed, d, { op: 'load', frames: { start: 0, count: 40 } });
    for (let i = 0; i < 2; i++) {
      expect(gfnsOf(shadow(bed, d, shadowOp.peek, { pages: 2048 }).bitmap)).toEqual([5, 700, 1031]);
    }
    expectSound(bed);
    const cleaned = shadow(bed, d, shadowOp.clean, { pages: 2048 });
    expect([gfnsOf(cleaned.bitmap), cleaned.dirtyCount, cleaned.pages]).toEqual([[5, 700, 1031], 3, 1064]);
    expectSound(bed);
    store(bed, d, [700]);
    const final = shadow(bed, d, shadowOp.clean, { pages: 2048, mode: SHADOW_LOGDIRTY_FINAL });
    expect(gfnsOf(final.bitmap)).toEqual([700]);
    expect(shadow(bed, d, shadowOp.off).rc).toBe(0);
    store(bed, d, [5]);
    expectSound(bed);
    expect(d.r.pauseCount).toBe(0);
  });

  it('misses no page, whatever is written, populated, moved, given up or cleaned in between', () => {
    const action = fc.record({
      kind: fc.constantFrom('store', 'store', 'store', 'balloon', 'populate', 'move', 'clean', 'peek', 'pod touch'),
      at: fc.nat(1063),
    });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
        const bed = bootTestbed();
        const d = makeGuest(bed);
        hypercall(bed, bed.dom0, { op: 'set_pod_target', domid: d.domid, targetPages: 1300 });
        populate(bed, d, 4096, 1, 9, XENMEMF_populate_on_demand);
        populate(bed, d, 0, 2, 9);
        populate(bed, d, 1024, 40);
        shadow(bed, d, shadowOp.enableLogdirty);
        let changed = new Set<number>();
        for (const { kind, at } of actions) {
          const { domid } = d;
          if (kind === 'store') {
            const { faulted } = hypercall(bed, d, { op: 'store', frames: { frames: [at] }, tag: at });
            if (faulted === 0) changed.add(at);
          } else if (kind === 'pod touch') {
            hypercall(bed, d, { op: 'store', frames: { frames: [4096 + (at % 512)] }, tag: 1 });
            changed.add(4096 + (at % 512));
          } else if (kind === 'balloon') {
            const extents = { start: at, count: 1 };
            hypercall(bed, d, { op: 'decrease_reservation', domid, order: 0, extents });
            changed.delete(at);
          } else if (kind === 'populate') {
            const extents = { start: at, count: 1 };
            hypercall(bed, d, { op: 'populate_physmap', domid, order: 0, memFlags: 0, extents });
            changed.add(at);
          } else if (kind === 'move') {
            const to = (at * 7) % 1064;
            const { rc } = hypercall(bed, d, { op: 'add_to_physmap', domid, space: 2, idx: at, gpfn: to, size: 0 });
            if (rc === 0 && to !== at) {
              changed.delete(at);
              changed.add(to);
            }
          } else {
            const sop = kind === 'clean' ? shadowOp.clean : shadowOp.peek;
            const dirty = new Set(gfnsOf(shadow(bed, d, sop, { pages: 8192 }).bitmap));
            expect([...changed].filter((g) => !dirty.has(g))).toEqual([]);
            if (kind === 'clean') changed = new Set();
          }
          expectSound(bed);
        }
        expect(d.crashed).toBe(false);
      }),
      { numRuns: 25 },
    );
  });

  it('is refused with a device, when it is on already, and while pages of an ioreq server are left', () => {
    const bed = bootTestbed();
    const d = guestWithRam(bed, true);
    const { domid } = d;
    expect(hypercall(bed, bed.dom0, { op: 'assign_device', domid, sbdf: GPU, flags: 0 }).rc).toBe(0);
    expect(shadow(bed, d, shadowOp.enableLogdirty).rc).toBe(-errno.EINVAL);
    expect(hypercall(bed, bed.dom0, { op: 'deassign_device', domid, sbdf: GPU }).rc).toBe(0);
    const { id = -1 } = hypercall(bed, bed.dom0, { op: 'create_ioreq_server', domid });
    const claim = { op: 'map_mem_type_to_ioreq_server', domid, id, memType: 4 } as const;
    expect(hypercall(bed, bed.dom0, { ...claim, flags: 2 }).rc).toBe(0);
    const set = { op: 'set_mem_type', domid, memType: 4, first: 5, count: 3 } as const;
    expect(hypercall(bed, bed.dom0, set).rc).toBe(0);
    expect(shadow(bed, d, shadowOp.enableLogdirty).rc).toBe(-errno.EBUSY);
    expect(hypercall(bed, bed.dom0, { ...claim, flags: 0 }).rc).toBe(0);
    expect(p2mLogDirtyGlobal(d)).toBe(false);
    expect(shadow(bed, d, shadowOp.enable, { mode: SHADOW_ENABLE_LOG_DIRTY }).rc).toBe(0);
    expect(p2mLogDirtyGlobal(d)).toBe(true);
    expect(shadow(bed, d, shadowOp.enableLogdirty).rc).toBe(-errno.EINVAL);
    // And the other way round: nobody would see what a device writes.
    expect(hypercall(bed, bed.dom0, { op: 'assign_device', domid, sbdf: GPU, flags: 0 }).rc).toBe(-errno.EXDEV);
    expect(shadow(bed, d, shadowOp.off).rc).toBe(0);
    expect(hypercall(bed, bed.dom0, { op: 'assign_device', domid, sbdf: GPU, flags: 0 }).rc).toBe(0);
    expectSound(bed);
  });

  it('answers as Xen: itself, dying, unknown operation or mode, another domain, a PV domain', () => {
    const bed = bootTestbed();
    const d = guestWithRam(bed);
    expect(shadow(bed, bed.dom0, shadowOp.peek).rc).toBe(-errno.EINVAL);
    expect(shadow(bed, d, 99).rc).toBe(-errno.EINVAL);
    expect(shadow(bed, d, shadowOp.enable).rc).toBe(-errno.EINVAL);
    expect(shadow(bed, d, shadowOp.peek, { mode: 2 }).rc).toBe(-errno.EINVAL);
    expect(shadow(bed, d, shadowOp.off).rc).toBe(0);
    const call = { op: 'shadow_op', sop: shadowOp.peek, mode: 0, pages: 0, copy: false, mb: 0 } as const;
    expect(hypercall(bed, d, { ...call, domid: 0 }).rc).toBe(-errno.EPERM);
    expect(hypercall(bed, bed.dom0, { ...call, domid: 77 }).rc).toBe(-errno.ESRCH);
    const pv = { name: 'pv', hvm: false, hap: false, iommu: false, noSharept: false, deviceModel: false, vcpus: 1 };
    const { domid = -1 } = hypercall(bed, bed.dom0, { op: 'createdomain', domid: 0, ...pv });
    expect(hypercall(bed, bed.dom0, { ...call, domid }).rc).toBe(-errno.EOPNOTSUPP);
  });

  it('without the bitmap it gives the figures; without table memory it says that writes were missed', () => {
    const bed = bootTestbed();
    const d = guestWithRam(bed);
    populate(bed, d, 20_480, 1);
    shadow(bed, d, shadowOp.enableLogdirty);
    store(bed, d, [1030, 1031]);
    const figures = {
      op: 'shadow_op',
      domid: d.domid,
      sop: shadowOp.peek,
      mode: 0,
      pages: 64,
      copy: false,
      mb: 0,
    } as const;
    expect(hypercall(bed, bed.dom0, figures)).toEqual({ rc: 0, pages: 64, dirtyCount: 2 });
    const kept: Mfn[] = [];
    for (let m = d.pool.shift(); m >= 0; m = d.pool.shift()) kept.push(m as Mfn);
    store(bed, d, [20_480]);
    expect(shadow(bed, d, shadowOp.peek, { pages: 64 }).rc).toBe(-errno.ENOMEM);
    expect(bed.log.lines).toContain(`1 failed page allocs while logging dirty pages of d${d.domid}`);
    expect(d.r.pauseCount).toBe(0);
    for (const m of kept) d.pool.append(m);
    expectSound(bed);
  });

  it('sets and tells the paging pool in MiB', () => {
    const bed = bootTestbed();
    const d = guestWithRam(bed);
    expect(shadow(bed, d, shadowOp.setAllocation, { mb: 4 })).toEqual({ rc: 0, mb: 4 });
    expect(d.r.poolTotal).toBe(1024);
    expect(shadow(bed, d, shadowOp.getAllocation)).toEqual({ rc: 0, mb: 4 });
    expect(shadow(bed, d, shadowOp.setAllocation).rc).toBe(-errno.ENOMEM);
  });

  it('a look that yields keeps the domain paused and everybody else out, and ends as one that did not', () => {
    const bed = bootTestbed();
    const d = makeGuest(bed, { poolPages: 1024 });
    populate(bed, d, 7, 1);
    populate(bed, d, 2 * DIRTY_SLICE + 9, 1);
    shadow(bed, d, shadowOp.enableLogdirty);
    store(bed, d, [7, 2 * DIRTY_SLICE + 9]);
    const call = {
      op: 'shadow_op',
      domid: d.domid,
      sop: shadowOp.clean,
      mode: 0,
      pages: 3 * DIRTY_SLICE,
      copy: true,
      mb: 0,
    } as const;
    bed.preempt = () => true;
    const first = slice(bed, bed.dom0, call);
    expect(first.end).toBe('continue');
    expect(d.r.pauseCount).toBe(1);
    expect(shadow(bed, d, shadowOp.off).rc).toBe(-errno.EBUSY);
    expect(shadow(bed, d, shadowOp.getAllocation).rc).toBe(0);
    let outcome = first;
    while (outcome.end === 'continue') outcome = slice(bed, bed.dom0, call, outcome.state);
    if (outcome.end !== 'done' || !('bitmap' in outcome.answer)) throw new Error('not done');
    expect(gfnsOf(outcome.answer.bitmap)).toEqual([7, 2 * DIRTY_SLICE + 9]);
    expect(d.r.pauseCount).toBe(0);
    bed.preempt = () => false;
    expect(shadow(bed, d, shadowOp.peek, { pages: 64 }).bitmap).toEqual([0, 0]);
    expectSound(bed);
  });

  it('its bitmap goes back to the pool with the mode, and with the domain', () => {
    const bed = bootTestbed();
    const d = guestWithRam(bed);
    shadow(bed, d, shadowOp.enableLogdirty);
    store(bed, d, [1030]);
    const spare = d.pool.length;
    shadow(bed, d, shadowOp.off);
    expect(d.pool.length).toBe(spare + 4);
    shadow(bed, d, shadowOp.enableLogdirty);
    store(bed, d, [1031]);
    expect(hypercall(bed, bed.dom0, { op: 'destroydomain', domid: d.domid }).rc).toBe(0);
    expectSound(bed);
  });
});
