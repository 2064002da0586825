import { describe, expect, it } from 'vitest';
import { expectSound, hypercall } from '../../test-support/hypercall-fixture.ts';
import { bootLending, LENDER_4K, type LendingSpec, SINGLES, WINDOW } from '../../test-support/lending-fixture.ts';
import { type RaceWork, runRace } from '../../test-support/lending-race.ts';
import { defaultPolicies } from '../host-config.ts';
import { checkInvariants } from '../invariants/check.ts';

async function race(
  spec: LendingSpec,
  rounds: number,
  roles: readonly RaceWork['role'][],
  goals: RaceWork['goals'] = [],
) {
  const l = bootLending({ pcpus: 3, driverDomain: true, ...spec });
  const { h } = l.bed;
  const found = await runRace(
    {
      shared: h.shared,
      lender: l.lender.domid,
      borrower: l.borrower.domid,
      window: WINDOW,
      pages: SINGLES,
      from: LENDER_4K,
      rounds,
      goals,
    },
    roles,
  );
  return { l, found };
}

describe('revocation against a borrower on other CPUs', () => {
  it('after it returns no access arrives, and it never fails, whatever the borrower does (2000 revocations)', async () => {
    const { l, found } = await race({}, 2000, ['lender', 'borrower', 'hypercaller'], ['faults', 'accesses']);
    expect(found).toMatchObject({ failures: 0, canaries: 0, violations: 0 });
    expect(found.revoked).toBeGreaterThanOrEqual(2000);
    expect(found.faults).toBeGreaterThan(0);
    expect(found.accesses).toBeGreaterThan(0);
    expectSound(l.bed);
    expect(hypercall(l.bed, l.bed.dom0, { op: 'destroydomain', domid: l.borrower.domid }).rc).toBe(0);
    expectSound(l.bed);
  });

  it('holding the lock for batches of 8 pages is as safe', async () => {
    const policies = { ...defaultPolicies, p2mLockHold: 'per-batch', p2mLockBatch: '8' } as const;
    const { l, found } = await race({ policies }, 1000, ['lender', 'borrower']);
    expect(found).toMatchObject({ revoked: 1000, failures: 0, canaries: 0, violations: 0 });
    expectSound(l.bed);
  });

  it('with the CPU flush lost, accesses arrive after it, and noAccessAfterRevoke says so', async () => {
    const policies = { ...defaultPolicies, cpuFlush: 'lost' } as const;
    const { l, found } = await race({ policies }, 400, ['lender', 'borrower'], ['violations', 'canaries']);
    expect(found.violations).toBeGreaterThan(0);
    expect(found.canaries).toBeGreaterThan(0);
    expect(checkInvariants(l.bed.h).map((v) => v.invariant)).toContain('noTlbEntryAfterRevoke');
  });
});
