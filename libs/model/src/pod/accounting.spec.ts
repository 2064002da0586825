import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bootTestbed, expectSound, hypercall, makeGuest, type Testbed } from '../../test-support/hypercall-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { XENMEMF_populate_on_demand } from '../hypercall/calls.ts';

const GFNS = 2048;

/** What a PoD guest is, as plain data: which gfns exist, what was stored where, and the debt (entries minus cache). */
class Oracle {
  readonly exists = new Set<number>();
  readonly stored = new Map<number, number>();
  debt = 0;

  mark(gfn: number, pages: number): void {
    for (let i = 0; i < pages; i++) this.exists.add(gfn + i);
    this.debt += pages;
  }

  /** While in debt every page given up pays one page of it; otherwise only a PoD entry (and the surplus cache) goes. */
  giveUp(gfn: number, wasPod: boolean): void {
    if (!this.exists.delete(gfn)) return;
    this.stored.delete(gfn);
    if (this.debt > 0) this.debt--;
    else if (wasPod) this.debt = 0;
  }
}

type Action =
  | { readonly do: 'touch' | 'store' | 'decrease'; readonly gfn: number; readonly count: number }
  | { readonly do: 'target'; readonly pages: number };

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constantFrom('touch' as const, 'store' as const, 'decrease' as const),
      gfn: fc.integer({ min: 0, max: GFNS - 1 }),
      count: fc.constantFrom(1, 1, 7, 60, 300),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('target' as const), pages: fc.integer({ min: 0, max: GFNS }) }) },
);

function isPod(d: Domain, before: number): boolean {
  return d.r.podEntryCount < before;
}

function perform(bed: Testbed, d: Domain, oracle: Oracle, a: Action): void {
  if (a.do === 'target') {
    const { totPages, podCount, podEntryCount } = d.r;
    const populated = totPages - podCount;
    hypercall(bed, bed.dom0, { op: 'set_pod_target', domid: d.domid, targetPages: a.pages });
    if (a.pages < totPages || (populated > 0 && podEntryCount === 0)) return;
    const cache = populated > 0 ? Math.min(a.pages - populated, podEntryCount) : a.pages;
    oracle.debt = podEntryCount - cache;
    return;
  }
  const start = a.gfn;
  const count = Math.min(a.count, GFNS - start);
  if (a.do === 'touch') hypercall(bed, d, { op: 'touch', frames: { start, count } });
  else if (a.do === 'store') {
    hypercall(bed, d, { op: 'store', frames: { start, count }, tag: start + 1 });
    for (let i = 0; i < count; i++) if (oracle.exists.has(start + i)) oracle.stored.set(start + i, start + 1);
  } else {
    // One by one: a hole ends a call, and each page's part in the debt is to be seen.
    for (let i = 0; i < count; i++) {
      const before = d.r.podEntryCount;
      hypercall(bed, d, {
        op: 'decrease_reservation',
        domid: d.domid,
        order: 0,
        extents: { start: start + i, count: 1 },
      });
      oracle.giveUp(start + i, isPod(d, before));
    }
  }
}

function agree(bed: Testbed, d: Domain, oracle: Oracle): void {
  expectSound(bed);
  expect(d.r.podEntryCount - d.r.podCount).toBe(oracle.debt);
  const populated = d.r.totPages - d.r.podCount;
  expect(populated + d.r.podEntryCount).toBe(oracle.exists.size);
}

describe('PoD accounting', () => {
  it('agrees with a plain model over any sequence of touch, store, give-up and target, all invariants holding', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: GFNS }), fc.array(action, { maxLength: 14 }), (cache, actions) => {
        const bed = bootTestbed({ frames: 16_384 });
        const d = makeGuest(bed, { maxPages: GFNS });
        const oracle = new Oracle();
        hypercall(bed, bed.dom0, { op: 'set_pod_target', domid: d.domid, targetPages: cache });
        oracle.debt = -cache;
        hypercall(bed, bed.dom0, {
          op: 'populate_physmap',
          domid: d.domid,
          order: 9,
          memFlags: XENMEMF_populate_on_demand,
          extents: { start: 0, count: GFNS / 512 },
        });
        oracle.mark(0, GFNS);
        for (const a of actions) {
          perform(bed, d, oracle, a);
          // Out of PoD memory: the guest is dead, the host must still be sound.
          if (d.crashed) {
            expectSound(bed);
            return;
          }
          agree(bed, d, oracle);
        }
        for (const [gfn, tag] of oracle.stored) {
          const { tags } = hypercall(bed, d, { op: 'load', frames: { start: gfn, count: 1 } });
          expect(tags).toEqual([tag]);
        }
      }),
      { numRuns: 300 },
    );
  });
});
