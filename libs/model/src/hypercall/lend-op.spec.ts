import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { expectSound, hypercall, makeGuest, slice } from '../../test-support/hypercall-fixture.ts';
import {
  bootLending,
  faultsOf,
  LENDER_2M,
  LENDER_4K,
  type Lending,
  lendTo,
  open,
  revokeFrom,
  SINGLES,
  store,
  tags,
  WINDOW,
  WINDOW_2M,
  WINDOW_PAGES,
} from '../../test-support/lending-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { defaultPolicies } from '../host-config.ts';
import { checkInvariants } from '../invariants/check.ts';
import { onFailure, windowAt } from '../lending/window.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { p2mType } from '../p2m/types.ts';
import { shadowOp } from './calls.ts';
import type { ContinuationState } from './continuation.ts';
import { errno } from './errno.ts';
import { LEND_check_sequence, LEND_readonly } from './lend-op.ts';

const typeAt = ({ bed, borrower }: Lending, g: number): number => {
  const leaf = new Leaf();
  peekEntry(bed.h, borrower, g, leaf);
  return leaf.type;
};

/** One slice of an access that may have to wait. */
const access = (
  { bed, borrower }: Lending,
  gfn: number,
  tag: number | null,
  state: ContinuationState | null = null,
) => {
  const frames = { start: gfn, count: 1 };
  return slice(bed, borrower, tag === null ? { op: 'load', frames } : { op: 'store', frames, tag }, state);
};

const stateOf = (outcome: ReturnType<typeof access>): ContinuationState | null =>
  outcome.end === 'done' ? null : outcome.state;

describe('lend and revoke', () => {
  for (const driverDomain of [false, true]) {
    it(`shows the lender’s own pages to the borrower, and takes them back (${driverDomain ? 'a driver domain' : 'dom0'} lends)`, () => {
      const l = bootLending({ driverDomain });
      const { bed, lender, borrower } = l;
      expect(lendTo(l, WINDOW + 3, LENDER_4K, 8)).toBe(0);
      expect(tags(bed, borrower, WINDOW + 3, 8)).toEqual(Array.from({ length: 8 }, (_, i) => LENDER_4K + i + 1));
      store(bed, borrower, WINDOW + 4, 77);
      expect(tags(bed, lender, LENDER_4K + 1)).toEqual([77]);
      expectSound(bed);
      expect(revokeFrom(l, WINDOW, 16)).toEqual({ rc: 0, revoked: 8 });
      expect(typeAt(l, WINDOW + 3)).toBe(p2mType.lentAbsent);
      expect(tags(bed, lender, LENDER_4K + 1)).toEqual([77]);
      expectSound(bed);
      expect(bed.log.violations).toEqual([]);
    });
  }

  it('revoking N pages costs one flush, no allocation and nothing in the IOMMU', () => {
    const l = bootLending({ iommu: true, policies: { ...defaultPolicies, iommuTables: 'separate' } });
    lendTo(l, WINDOW, LENDER_4K, SINGLES);
    const { counters } = l.bed.h;
    const before = counters.snapshot();
    expect(revokeFrom(l, WINDOW, WINDOW_PAGES)).toEqual({ rc: 0, revoked: SINGLES });
    const after = counters.snapshot();
    const moved = Object.fromEntries(
      Object.entries(after).filter(([name, value]) => value !== before[name as keyof typeof before]),
    );
    expect(Object.keys(moved).toSorted()).toEqual([
      'cpu.flush',
      'cpu.flushDeferred',
      'hypercall.done',
      'lend.flush',
      'lend.revoked',
    ]);
    expect(after['cpu.flush'] - before['cpu.flush']).toBe(1);
    expectSound(l.bed);
  });

  it('by batches (lock: per-batch) flushes once a batch and ends alike, cut at every check or not', () => {
    for (const preempt of [false, true]) {
      const l = bootLending({ policies: { ...defaultPolicies, p2mLockHold: 'per-batch', p2mLockBatch: '8' } });
      lendTo(l, WINDOW, LENDER_4K, SINGLES);
      const flushes = l.bed.h.counters.read('lend.flush');
      l.bed.preempt = () => preempt;
      expect(revokeFrom(l, WINDOW, SINGLES)).toEqual({ rc: 0, revoked: SINGLES });
      expect([l.bed.h.counters.read('lend.flush') - flushes, l.bed.slices]).toEqual([8, preempt ? 8 : 1]);
      expectSound(l.bed);
    }
  });

  it('a 2M page is lent and revoked whole, without a table (R11)', () => {
    const l = bootLending();
    const { bed, borrower } = l;
    store(bed, l.lender, LENDER_2M + 5, 9);
    expect(lendTo(l, WINDOW_2M, LENDER_2M, 2)).toBe(0);
    expect(tags(bed, borrower, WINDOW_2M + 5)).toEqual([9]);
    expectSound(bed);
    const used = bed.h.tables.inUse;
    expect(revokeFrom(l, WINDOW_2M + 7, 1)).toEqual({ rc: 0, revoked: 512 });
    expect(bed.h.tables.inUse).toBe(used);
    expect([typeAt(l, WINDOW_2M), typeAt(l, WINDOW_2M + 512)]).toEqual([p2mType.lentAbsent, p2mType.lent]);
    expect(lendTo(l, WINDOW_2M + 1, LENDER_2M, 1)).toBe(-errno.EINVAL);
    expect(lendTo(l, WINDOW_2M, LENDER_4K, 1)).toBe(-errno.EINVAL); // 512 small pages are no superpage
    expectSound(bed);
  });

  it('keeps a page that its lender frees without revoking it, until it is revoked', () => {
    const l = bootLending({ driverDomain: true });
    const { bed, lender, borrower } = l;
    lendTo(l, WINDOW, LENDER_4K);
    const free = bed.h.heap.freePages;
    const extents = { start: LENDER_4K, count: 1 };
    expect(hypercall(bed, lender, { op: 'decrease_reservation', domid: lender.domid, order: 0, extents }).rc).toBe(1);
    expect([bed.h.heap.freePages, tags(bed, borrower, WINDOW)]).toEqual([free, [LENDER_4K + 1]]);
    expectSound(bed);
    revokeFrom(l, WINDOW);
    expect(bed.h.heap.freePages).toBe(free + 1);
    expectSound(bed);
  });

  it('lent read-only, a write faults to the lender, who may lend again for writing; write-protecting takes that back', () => {
    const l = bootLending();
    const { bed, borrower } = l;
    expect(lendTo(l, WINDOW, LENDER_4K, 1, LEND_readonly)).toBe(0);
    expect(tags(bed, borrower, WINDOW)).toEqual([LENDER_4K + 1]);
    const waiting = access(l, WINDOW, 5);
    expect(waiting).toMatchObject({ end: 'blocked', on: { on: 'lend', domid: borrower.domid } });
    expect(faultsOf(l)).toEqual([{ domid: borrower.domid, vcpu: 0, gfn: WINDOW, write: true, sequence: 0 }]);
    expect(lendTo(l, WINDOW, LENDER_4K)).toBe(0);
    expect(access(l, WINDOW, 5, stateOf(waiting))).toMatchObject({ end: 'done', answer: { done: 1, faulted: 0 } });
    expect(revokeFrom(l, WINDOW, 4, true)).toEqual({ rc: 0, revoked: 1 });
    expect(tags(bed, borrower, WINDOW)).toEqual([5]);
    expect(access(l, WINDOW, 6).end).toBe('blocked');
    expect(tags(bed, l.lender, LENDER_4K)).toEqual([5]);
    expectSound(bed);
  });
});

describe('an access to a page that is not there', () => {
  it('waits, and the rest of the borrower goes on; the lender is told once; lending again lets it finish', () => {
    const l = bootLending();
    const { bed, borrower } = l;
    const first = access(l, WINDOW + 9, null);
    expect(first.end).toBe('blocked');
    expect(tags(bed, borrower, 3)).toEqual([0]);
    expect(faultsOf(l)).toHaveLength(1);
    const again = access(l, WINDOW + 9, null, stateOf(first));
    expect([again.end, faultsOf(l)]).toEqual(['blocked', []]);
    lendTo(l, WINDOW + 9, LENDER_4K + 2);
    expect(access(l, WINDOW + 9, null, stateOf(again))).toMatchObject({
      end: 'done',
      answer: { tags: [LENDER_4K + 3], faulted: 0 },
    });
    expectSound(bed);
  });

  it('tells a lender that waits for it: its call is blocked until the event count moves', () => {
    const l = bootLending();
    const { bed, lender } = l;
    const waiting = slice(bed, lender, { op: 'lend_faults', wait: true });
    expect(waiting).toMatchObject({ end: 'blocked', on: { on: 'lend', domid: lender.domid } });
    access(l, WINDOW, 1);
    if (waiting.end !== 'blocked' || waiting.on.on !== 'lend') throw new Error('not blocked');
    expect(lender.r.lendEvents).not.toBe(waiting.on.seen);
    expect(slice(bed, lender, { op: 'lend_faults', wait: true })).toMatchObject({ end: 'done' });
  });

  it('a revocation after the fault was told makes the lending of what was looked up before fail (R9)', () => {
    const l = bootLending();
    access(l, WINDOW, null);
    const { sequence } = faultsOf(l)?.[0] ?? { sequence: -1 };
    revokeFrom(l, WINDOW + 100, 1);
    expect(lendTo(l, WINDOW, LENDER_4K, 1, LEND_check_sequence, sequence)).toBe(-errno.EAGAIN);
    expect(typeAt(l, WINDOW)).toBe(p2mType.lentAbsent);
    const now =
      hypercall(l.bed, l.lender, { op: 'lend_sequence', domid: l.borrower.domid, gfn: WINDOW }).sequence ?? -1;
    expect(lendTo(l, WINDOW, LENDER_4K, 1, LEND_check_sequence, now)).toBe(0);
    expectSound(l.bed);
  });

  it('sequence numbers near 2^31 and at their very end are compared whole (R12)', () => {
    for (const start of [2 ** 31 - 2, 2 ** 32 - 2, Number.MAX_SAFE_INTEGER - 1]) {
      const l = bootLending();
      windowAt(l.borrower, WINDOW)?.sequenceTo(start);
      for (let i = 0; i < 5; i++) {
        const sequence = hypercall(l.bed, l.lender, { op: 'lend_sequence', domid: l.borrower.domid, gfn: WINDOW });
        expect(lendTo(l, WINDOW, LENDER_4K, 1, LEND_check_sequence, sequence.sequence)).toBe(0);
        expect(revokeFrom(l, WINDOW).revoked).toBe(1);
        expect(lendTo(l, WINDOW, LENDER_4K, 1, LEND_check_sequence, sequence.sequence)).toBe(-errno.EAGAIN);
      }
      for (const wrong of [-1, 0.5, Number.NaN, 2 ** 60]) {
        expect(lendTo(l, WINDOW, LENDER_4K, 1, LEND_check_sequence, wrong)).toBe(-errno.EINVAL);
      }
      expectSound(l.bed);
    }
  });

  it('that the lender cannot resolve finds zeroes of the lender’s, gone with their revocation; or a fault', () => {
    const zero = bootLending({ driverDomain: true });
    const waiting = access(zero, WINDOW, null);
    const [total, free] = [zero.lender.r.totPages, zero.bed.h.heap.freePages];
    const fail = (l: Lending) =>
      hypercall(l.bed, l.lender, { op: 'lend_fail', domid: l.borrower.domid, gfn: WINDOW }).rc;
    expect(fail(zero)).toBe(0);
    expect(access(zero, WINDOW, null, stateOf(waiting))).toMatchObject({
      end: 'done',
      answer: { tags: [0], faulted: 0 },
    });
    expect([zero.lender.r.totPages, zero.bed.h.heap.freePages]).toEqual([total + 1, free - 1]);
    expectSound(zero.bed);
    revokeFrom(zero, WINDOW);
    expect([zero.lender.r.totPages, zero.bed.h.heap.freePages]).toEqual([total, free]);

    const fault = bootLending({ failure: onFailure.fault });
    const stuck = access(fault, WINDOW, null);
    expect(fail(fault)).toBe(0);
    expect(access(fault, WINDOW, null, stateOf(stuck))).toMatchObject({
      end: 'done',
      answer: { tags: [-1], faulted: 1 },
    });
    expect(access(fault, WINDOW, null).end).toBe('blocked'); // the next access asks again
    expectSound(fault.bed);
  });
});

describe('to everything but a vCPU’s access lent memory is a hole', () => {
  const hole = (l: Lending) => {
    const { bed, lender, borrower } = l;
    const { domid } = borrower;
    const extents = { start: WINDOW, count: 1 };
    const foreign = { space: 4, foreignDomid: domid, idxs: extents, gpfns: { start: 0x3000, count: 1 } };
    const third = makeGuest(bed);
    return {
      decrease: hypercall(bed, borrower, { op: 'decrease_reservation', domid, order: 0, extents }).rc,
      move: hypercall(bed, borrower, { op: 'add_to_physmap', domid, space: 2, idx: WINDOW, gpfn: 0x3000, size: 0 }).rc,
      remove: hypercall(bed, borrower, { op: 'remove_from_physmap', domid, gpfn: WINDOW }).rc,
      foreignByDom0: hypercall(bed, bed.dom0, { op: 'add_to_physmap_batch', domid: third.domid, ...foreign }).errs,
      copyFrom: hypercall(bed, borrower, {
        op: 'gnttab_copy',
        ops: [
          {
            sourceDomid: 0x7ff0,
            sourceFrame: WINDOW,
            sourceOffset: 0,
            destDomid: 0x7ff0,
            destFrame: 2,
            destOffset: 0,
            length: 64,
            flags: 0,
          },
        ],
      }).statuses,
      lendOn: hypercall(bed, lender, {
        op: 'lend',
        domid,
        first: WINDOW + 1,
        gfns: { start: 0x7000, count: 1 },
        flags: 0,
        sequence: 0,
      }).rc,
    };
  };

  it('hypercalls find nothing there, whether a page is lent or not', () => {
    for (const lent of [true, false]) {
      const l = bootLending();
      if (lent) lendTo(l, WINDOW, LENDER_4K);
      expect(hole(l)).toEqual({
        decrease: 0,
        move: -errno.EACCES,
        remove: -errno.ENOENT,
        foreignByDom0: [-errno.EINVAL],
        copyFrom: [-9],
        lendOn: -errno.ENOENT,
      });
      expect([typeAt(l, WINDOW), l.borrower.crashed]).toEqual([lent ? p2mType.lent : p2mType.lentAbsent, false]);
      expectSound(l.bed);
    }
  });

  it('a borrower that maps something over it is crashed, and the lender can still revoke', () => {
    const l = bootLending();
    const { bed, borrower } = l;
    lendTo(l, WINDOW, LENDER_4K);
    const { domid } = borrower;
    const extents = { start: WINDOW, count: 1 };
    hypercall(bed, borrower, { op: 'populate_physmap', domid, order: 0, memFlags: 0, extents });
    expect(borrower.crashed).toBe(true);
    expect(revokeFrom(l, WINDOW)).toEqual({ rc: 0, revoked: 1 });
    expectSound(bed);
  });

  it('a device of the borrower does not see it with separate tables; with shared ones lending is refused, or reported', () => {
    const policies = (shared: 'refuse' | 'allow', iommuTables: 'separate' | 'shared') => ({
      policies: { ...defaultPolicies, iommuTables, lendSharedTables: shared },
    });
    const separate = bootLending({ iommu: true, ...policies('refuse', 'separate') });
    lendTo(separate, WINDOW, LENDER_4K, 4);
    expectSound(separate.bed);

    const refused = bootLending({ iommu: true, ...policies('refuse', 'shared') });
    expect(open(refused, 0x20000, 16)).toBe(-errno.EXDEV);
    expect(refused.bed.log.lines.some((line) => line.includes("devices walk the CPU's tables"))).toBe(true);
    expectSound(refused.bed);

    const allowed = bootLending({ iommu: true, ...policies('allow', 'shared') });
    expect(lendTo(allowed, WINDOW, LENDER_4K, 4)).toBe(0);
    expect(checkInvariants(allowed.bed.h).map((v) => v.invariant)).toEqual(['noLentFrameInIommu']);
    revokeFrom(allowed, WINDOW, 4);
    expectSound(allowed.bed);
  });

  it('log-dirty and a window exclude each other', () => {
    const l = bootLending();
    const { domid } = l.borrower;
    const enable = {
      op: 'shadow_op',
      domid,
      sop: shadowOp.enableLogdirty,
      mode: 0,
      pages: 0,
      copy: false,
      mb: 0,
    } as const;
    expect(hypercall(l.bed, l.bed.dom0, enable).rc).toBe(-errno.EINVAL);
    const other = makeGuest(l.bed);
    expect(hypercall(l.bed, l.bed.dom0, { ...enable, domid: other.domid }).rc).toBe(0);
    expect(open({ ...l, borrower: other }, 0x100, 4)).toBe(-errno.EBUSY);
  });
});

describe('hostile and broken calls get an errno, and nothing changes', () => {
  it('opening', () => {
    const l = bootLending();
    const { bed, borrower } = l;
    const other = makeGuest(bed);
    const as = (lender: Domain, to: number, first: number, count: number, order = 0, failure = 0) =>
      hypercall(bed, lender, { op: 'lend_open', domid: to, first, count, order, onFailure: failure }).rc;
    const { domid } = borrower;
    expect(as(bed.dom0, 999, 0x20000, 4)).toBe(-errno.ESRCH);
    expect(as(other, domid, 0x20000, 4)).toBe(-errno.EPERM);
    expect(as(bed.dom0, 0, 0x20000, 4)).toBe(-errno.EINVAL);
    expect(as(bed.dom0, domid, 0x20000, 0)).toBe(-errno.EINVAL);
    expect(as(bed.dom0, domid, 2 ** 36 - 2, 4)).toBe(-errno.EINVAL);
    expect(as(bed.dom0, domid, 2 ** 52, 4)).toBe(-errno.EINVAL);
    expect(as(bed.dom0, domid, 0x20001, 512, 9)).toBe(-errno.EINVAL);
    expect(as(bed.dom0, domid, 0x20000, 4, 4)).toBe(-errno.EINVAL);
    expect(as(bed.dom0, domid, 0x20000, 4, 0, 7)).toBe(-errno.EINVAL);
    expect(as(bed.dom0, domid, 10, 8)).toBe(-errno.EBUSY); // RAM
    expect(as(bed.dom0, domid, WINDOW - 1, 2)).toBe(-errno.EBUSY);
    expect(as(bed.dom0, domid, 14, 4)).toBe(-errno.EBUSY);
    expectSound(bed);
    for (let i = 0; i < 14; i++) expect(as(bed.dom0, domid, 0x30000 + i, 1)).toBe(0);
    expect(as(bed.dom0, domid, 0x40000, 1)).toBe(-errno.ENOSPC);
    expectSound(bed);
  });

  it('opening without table memory gives everything back', () => {
    const l = bootLending();
    const poor = makeGuest(l.bed, { poolPages: 258 });
    const pages = 512 * 400;
    expect(open({ ...l, borrower: poor }, 0x80000, pages)).toBe(-errno.ENOMEM);
    expect(windowAt(poor, 0x80000)).toBe(null);
    expectSound(l.bed);
  });

  it('lending', () => {
    const l = bootLending({ driverDomain: true });
    const { bed, lender, borrower } = l;
    const granted = 0x2000;
    const foreign = { domid: lender.domid, space: 4, foreignDomid: borrower.domid };
    hypercall(bed, bed.dom0, {
      op: 'add_to_physmap_batch',
      ...foreign,
      idxs: { start: 2, count: 1 },
      gpfns: { start: granted, count: 1 },
    });
    expect(lendTo(l, WINDOW, granted)).toBe(-errno.EPERM); // not its own
    expect(lendTo(l, WINDOW, 0x7777)).toBe(-errno.ENOENT);
    expect(lendTo(l, WINDOW, LENDER_4K + SINGLES - 2, 4)).toBe(-errno.ENOENT); // runs out of its memory
    expect(lendTo(l, 5, LENDER_4K)).toBe(-errno.ENOENT); // no window
    expect(lendTo(l, WINDOW + WINDOW_PAGES - 1, LENDER_4K, 2)).toBe(-errno.ENOENT); // beyond its end
    expect(lendTo(l, 2 ** 36 - 1, LENDER_4K, 2)).toBe(-errno.EINVAL);
    expect(lendTo(l, WINDOW, LENDER_4K, 0)).toBe(-errno.EINVAL);
    expect(lendTo(l, WINDOW, LENDER_4K, 1, 8)).toBe(-errno.EINVAL);
    expect(lendTo({ ...l, lender: bed.dom0 }, WINDOW, LENDER_4K)).toBe(-errno.EPERM); // another's window
    expect(lendTo({ ...l, lender: makeGuest(bed) }, WINDOW, LENDER_4K)).toBe(-errno.EPERM);
    expect(lendTo(l, WINDOW, LENDER_4K)).toBe(0);
    expect(lendTo(l, WINDOW, LENDER_4K + 1)).toBe(-errno.EEXIST); // revoke the other first
    expect(lendTo(l, WINDOW, LENDER_4K)).toBe(0);
    expect(borrower.r.nrLent).toBe(1);
    expectSound(bed);
  });

  it('revoking and closing', () => {
    const l = bootLending();
    const { bed, borrower } = l;
    const other = makeGuest(bed);
    lendTo(l, WINDOW, LENDER_4K, 4);
    expect(revokeFrom(l, 5).rc).toBe(-errno.ESRCH); // never lent
    expect(revokeFrom(l, WINDOW - 1, 2).rc).toBe(-errno.ESRCH);
    expect(revokeFrom(l, WINDOW, WINDOW_PAGES + 1).rc).toBe(-errno.ESRCH);
    expect(revokeFrom(l, 2 ** 36 - 1, 2).rc).toBe(-errno.EINVAL);
    expect(revokeFrom(l, WINDOW, 0).rc).toBe(-errno.EINVAL);
    expect(revokeFrom({ ...l, lender: other }, WINDOW).rc).toBe(-errno.EPERM);
    expect(revokeFrom({ ...l, borrower: other }, WINDOW).rc).toBe(-errno.ESRCH);
    const close = (from: Domain, first: number) =>
      hypercall(bed, from, { op: 'lend_close', domid: borrower.domid, first }).rc;
    expect([close(other, WINDOW), close(bed.dom0, WINDOW + 1)]).toEqual([-errno.ENOENT, -errno.ENOENT]);
    expect(borrower.r.nrLent).toBe(4);
    expectSound(bed);
    expect([close(bed.dom0, WINDOW), borrower.r.nrLent]).toEqual([0, 0]);
    expect(tags(bed, borrower, WINDOW)).toEqual([-1]); // a hole again
    expectSound(bed);
  });

  it('a privilege is for one domain, and ends with it', () => {
    const l = bootLending({ driverDomain: true });
    const { bed, lender, borrower } = l;
    const { domid } = borrower;
    const target = (d: number, t: number) => hypercall(bed, bed.dom0, { op: 'set_target', domid: d, target: t }).rc;
    expect(target(lender.domid, 0)).toBe(-errno.EINVAL);
    expect([target(domid, 999), target(domid, domid)]).toEqual([-errno.ESRCH, -errno.EINVAL]);
    expect(hypercall(bed, lender, { op: 'set_target', domid: lender.domid, target: 0 }).rc).toBe(-errno.EPERM);
    hypercall(bed, bed.dom0, { op: 'destroydomain', domid });
    const again = hypercall(bed, bed.dom0, {
      op: 'createdomain',
      domid,
      name: 'again',
      hvm: true,
      hap: true,
      iommu: false,
      noSharept: false,
      deviceModel: true,
      vcpus: 1,
    });
    expect(again.domid).toBe(domid);
    expect(open(l, WINDOW, 4)).toBe(-errno.EPERM);
    expectSound(bed);
  });
});

describe('death', () => {
  it('of the borrower gives every page back', () => {
    const l = bootLending({ driverDomain: true });
    const { bed, lender, borrower } = l;
    lendTo(l, WINDOW, LENDER_4K, SINGLES);
    lendTo(l, WINDOW_2M, LENDER_2M, 2);
    expect(hypercall(bed, bed.dom0, { op: 'destroydomain', domid: borrower.domid }).rc).toBe(0);
    expect(borrower.exists).toBe(false);
    expect(revokeFrom(l, WINDOW).rc).toBe(-errno.ESRCH);
    expectSound(bed);
    expect(hypercall(bed, bed.dom0, { op: 'destroydomain', domid: lender.domid }).rc).toBe(0);
    expectSound(bed);
  });

  it('of the lender takes every page away first; whoever waits for one finds a hole', () => {
    for (const preempt of [false, true]) {
      const l = bootLending({ driverDomain: true });
      const { bed, lender, borrower } = l;
      lendTo(l, WINDOW, LENDER_4K, SINGLES);
      const waiting = access(l, WINDOW + 500, null);
      bed.preempt = () => preempt;
      expect(hypercall(bed, bed.dom0, { op: 'destroydomain', domid: lender.domid }).rc).toBe(0);
      expect([lender.exists, borrower.r.nrLent]).toEqual([false, 0]);
      expect(access(l, WINDOW + 500, null, stateOf(waiting))).toMatchObject({ end: 'done', answer: { tags: [-1] } });
      expectSound(bed);
    }
  });
});

describe('lending against an oracle', () => {
  type Act =
    | { readonly act: 'lend'; at: number; from: number; count: number; readonly: boolean }
    | { readonly act: 'revoke'; at: number; count: number; protect: boolean }
    | { readonly act: 'store' | 'load'; at: number };
  const at = fc.integer({ min: 0, max: 31 });
  const act: fc.Arbitrary<Act> = fc.oneof(
    fc.record({
      act: fc.constant('lend' as const),
      at,
      from: fc.integer({ min: 0, max: 24 }),
      count: fc.integer({ min: 1, max: 8 }),
      readonly: fc.boolean(),
    }),
    fc.record({
      act: fc.constant('revoke' as const),
      at,
      count: fc.integer({ min: 1, max: 16 }),
      protect: fc.boolean(),
    }),
    fc.record({ act: fc.constantFrom('store' as const, 'load' as const), at }),
  );

  it('what the borrower sees is what a plain list of lent pages says', () => {
    fc.assert(
      fc.property(fc.array(act, { maxLength: 40 }), (acts) => {
        const l = bootLending({ frames: 16_384 });
        const lent = new Map<number, { from: number; readonly: boolean }>();
        const contents = Array.from({ length: SINGLES }, (_, i) => LENDER_4K + i + 1);
        let tag = 1_000_000;
        for (const a of acts) {
          if (a.act === 'lend') {
            const pages = Array.from({ length: a.count }, (_, i) => [a.at + i, a.from + i] as const);
            const clash = pages.some(([g, from]) => lent.has(g) && lent.get(g)?.from !== from);
            const flags = a.readonly ? LEND_readonly : 0;
            expect(lendTo(l, WINDOW + a.at, LENDER_4K + a.from, a.count, flags)).toBe(clash ? -errno.EEXIST : 0);
            if (clash) continue;
            for (const [g, from] of pages)
              lent.set(g, { from, readonly: a.readonly && (lent.get(g)?.readonly ?? true) });
          } else if (a.act === 'revoke') {
            let moved = 0;
            for (let g = a.at; g < a.at + a.count; g++) {
              const page = lent.get(g);
              if (!page || (a.protect && page.readonly)) continue;
              moved++;
              if (a.protect) lent.set(g, { ...page, readonly: true });
              else lent.delete(g);
            }
            expect(revokeFrom(l, WINDOW + a.at, a.count, a.protect)).toEqual({ rc: 0, revoked: moved });
          } else {
            const page = lent.get(a.at);
            const blocks = !page || (a.act === 'store' && page.readonly);
            const outcome = access(l, WINDOW + a.at, a.act === 'store' ? ++tag : null);
            expect(outcome.end).toBe(blocks ? 'blocked' : 'done');
            if (!page || blocks) continue;
            if (a.act === 'store') contents[page.from] = tag;
            else expect(outcome).toMatchObject({ answer: { tags: [contents[page.from]] } });
          }
        }
        expect(l.borrower.r.nrLent).toBe(lent.size);
        expect(tags(l.bed, l.lender, LENDER_4K, SINGLES)).toEqual(contents);
        expectSound(l.bed);
        expect(l.bed.log.violations).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });
});
