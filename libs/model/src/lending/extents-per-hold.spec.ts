import { describe, expect, it } from 'vitest';
import { expectSound } from '../../test-support/hypercall-fixture.ts';
import {
  bootLending,
  LENDER_2M,
  LENDER_4K,
  lendTo,
  revokeFrom,
  SINGLES,
  WINDOW,
  WINDOW_2M,
} from '../../test-support/lending-fixture.ts';
import { defaultPolicies, type ModelPolicies } from '../host-config.ts';

const flushes = (batch: ModelPolicies['p2mLockBatch'], first: number, from: number, extents: number, pages: number) => {
  const l = bootLending({ policies: { ...defaultPolicies, p2mLockHold: 'per-batch', p2mLockBatch: batch } });
  const { counters } = l.bed.h;
  expect(lendTo(l, first, from, extents)).toBe(0);
  const before = counters.read('lend.flush');
  expect(revokeFrom(l, first, pages)).toEqual({ rc: 0, revoked: pages });
  expectSound(l.bed);
  return counters.read('lend.flush') - before;
};

describe('what is lent and revoked under one hold of the p2m lock', () => {
  it('is counted in leaves, small or large: so many flushes as there are batches', () => {
    expect(flushes('1', WINDOW, LENDER_4K, SINGLES, SINGLES)).toBe(SINGLES);
    expect(flushes('512', WINDOW, LENDER_4K, SINGLES, SINGLES)).toBe(1);
    expect(flushes('1', WINDOW_2M, LENDER_2M, 2, 1024)).toBe(2);
    expect(flushes('64', WINDOW_2M, LENDER_2M, 2, 1024)).toBe(1);
  });
});
