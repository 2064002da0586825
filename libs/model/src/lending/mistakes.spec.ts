import { describe, expect, it } from 'vitest';
import { expectSound, hypercall } from '../../test-support/hypercall-fixture.ts';
import {
  bootLending,
  LENDER_2M,
  LENDER_4K,
  type Lending,
  lendTo,
  revokeFrom,
  store,
  tags,
  WINDOW,
} from '../../test-support/lending-fixture.ts';
import { DOMID_SELF } from '../frames/addresses.ts';
import { defaultPolicies, type ModelPolicies } from '../host-config.ts';
import { physmapSpace } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';

const withPolicy = (some: Partial<ModelPolicies>, driverDomain = false): Lending =>
  bootLending({ policies: { ...defaultPolicies, ...some }, driverDomain });

const orderAt = ({ bed, borrower }: Lending, g: number): number => {
  const leaf = new Leaf();
  peekEntry(bed.h, borrower, g, leaf);
  return leaf.order;
};

/** The borrower moves pages of its own to far-off places until Xen has no table for it any more. */
function hoard({ bed, borrower }: Lending): void {
  for (let i = 0; ; i++) {
    const gpfn = 0x20_0000 + i * 512;
    const move = { op: 'add_to_physmap', domid: DOMID_SELF, space: physmapSpace.gmfn, idx: i, gpfn, size: 1 } as const;
    const extents = { start: i, count: 1 };
    const ram = { op: 'populate_physmap', domid: borrower.domid, order: 0, memFlags: 0, extents } as const;
    hypercall(bed, bed.dom0, ram);
    const { rc } = hypercall(bed, borrower, move);
    if (rc === -errno.ENOMEM) return;
    expect(rc).toBe(0);
  }
}

describe('lend.tables: on-demand', () => {
  it('lends a 2M run as one mapping, and splits it when a single page is revoked', () => {
    const l = withPolicy({ lendTables: 'on-demand' });
    expect(lendTo(l, WINDOW, LENDER_2M, 512)).toBe(0);
    expect(orderAt(l, WINDOW)).toBe(9);
    store(l.bed, l.lender, LENDER_2M + 7, 99);
    expect(tags(l.bed, l.borrower, WINDOW + 7)).toEqual([99]);
    expectSound(l.bed);
    expect(revokeFrom(l, WINDOW + 5)).toEqual({ rc: 0, revoked: 1 });
    expect([orderAt(l, WINDOW), tags(l.bed, l.borrower, WINDOW + 7)]).toEqual([0, [99]]);
    expectSound(l.bed);
    expect(lendTo(l, WINDOW + 5, LENDER_4K)).toBe(0);
    expect(revokeFrom(l, WINDOW, 512)).toEqual({ rc: 0, revoked: 512 });
    expectSound(l.bed);
  });

  it('cannot revoke when the borrower has used up its tables, and says so; all of the 2M still goes', () => {
    const l = withPolicy({ lendTables: 'on-demand' });
    expect(lendTo(l, WINDOW, LENDER_2M, 512)).toBe(0);
    hoard(l);
    expect(revokeFrom(l, WINDOW + 5)).toEqual({ rc: -errno.ENOMEM, revoked: 0 });
    expect(l.bed.log.violations.map(({ invariant }) => invariant)).toEqual(['revokeNeverFails']);
    expect(tags(l.bed, l.borrower, WINDOW + 5)).toEqual(tags(l.bed, l.lender, LENDER_2M + 5));
    expect(revokeFrom(l, WINDOW, 512)).toEqual({ rc: 0, revoked: 512 });
    expectSound(l.bed);
    expect(hypercall(l.bed, l.lender, { op: 'lend_close', domid: l.borrower.domid, first: WINDOW }).rc).toBe(0);
    expectSound(l.bed);
  });

  it('pre-split, the same borrower stops nothing', () => {
    const l = withPolicy({});
    expect(lendTo(l, WINDOW, LENDER_2M, 512)).toBe(0);
    hoard(l);
    expect(revokeFrom(l, WINDOW + 5)).toEqual({ rc: 0, revoked: 1 });
    expect(l.bed.log.violations).toEqual([]);
    expectSound(l.bed);
  });

  it('a second lend over a 2M run is refused, and closing a window of large mappings lets go of all of them', () => {
    const l = withPolicy({ lendTables: 'on-demand' });
    expect(lendTo(l, WINDOW, LENDER_2M, 512)).toBe(0);
    expect(lendTo(l, WINDOW + 3, LENDER_4K)).toBe(-errno.EEXIST);
    expect(hypercall(l.bed, l.lender, { op: 'lend_close', domid: l.borrower.domid, first: WINDOW }).rc).toBe(0);
    expect(l.borrower.r.nrLent).toBe(0);
    expectSound(l.bed);
  });
});

describe('lend.hypercalls', () => {
  const copyInto = ({ bed, borrower }: Lending, destFrame: number) => {
    const self = { sourceDomid: DOMID_SELF, sourceFrame: 3, sourceOffset: 0, destDomid: DOMID_SELF };
    const ops = [{ ...self, destFrame, destOffset: 0, length: 8, flags: 0 }];
    return hypercall(bed, borrower, { op: 'gnttab_copy', ops }).statuses;
  };

  it('hole: a copy into lent memory finds nothing', () => {
    const l = withPolicy({});
    expect(lendTo(l, WINDOW, LENDER_4K)).toBe(0);
    expect(copyInto(l, WINDOW)).toEqual([-9]);
  });

  it('visible: it is made, with a reference while it runs, and no other is left behind', () => {
    const l = withPolicy({ lendHypercalls: 'visible' });
    expect(lendTo(l, WINDOW, LENDER_4K)).toBe(0);
    store(l.bed, l.borrower, 3, 4711);
    expect(copyInto(l, WINDOW)).toEqual([0]);
    expect(tags(l.bed, l.lender, LENDER_4K)).toEqual([4711]);
    expectSound(l.bed);
    revokeFrom(l, WINDOW);
    expect(copyInto(l, WINDOW)).toEqual([-9]);
    expect(l.bed.log.violations).toEqual([]);
  });
});

describe('lend.frames', () => {
  for (const lendFrames of ['counted', 'uncounted'] as const) {
    it(`${lendFrames}: a frame that its lender gives up while it is lent ${lendFrames === 'counted' ? 'stays allocated' : 'is freed, and the borrower reaches it'}`, () => {
      const l = withPolicy({ lendFrames });
      expect(lendTo(l, WINDOW, LENDER_4K)).toBe(0);
      const extents = { start: LENDER_4K, count: 1 };
      const gone = { op: 'decrease_reservation', domid: DOMID_SELF, order: 0, extents } as const;
      expect(hypercall(l.bed, l.lender, gone).rc).toBe(1);
      tags(l.bed, l.borrower, WINDOW);
      const found = l.bed.log.violations.map(({ invariant }) => invariant);
      expect(found).toEqual(lendFrames === 'counted' ? [] : ['noCpuAccessToFreedFrame']);
    });
  }

  it('uncounted: a lender’s death frees its memory before it closes its windows, and in the end nothing is lent', () => {
    const l = withPolicy({ lendFrames: 'uncounted' }, true);
    expect(lendTo(l, WINDOW, LENDER_4K, 8)).toBe(0);
    expect(hypercall(l.bed, l.bed.dom0, { op: 'destroydomain', domid: l.lender.domid }).rc).toBe(0);
    expect([l.lender.exists, l.borrower.r.nrLent]).toEqual([false, 0]);
    expectSound(l.bed);
  });
});
