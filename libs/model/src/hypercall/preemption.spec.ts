import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bootTestbed, expectSound, hypercall, makeGuest, type Testbed } from '../../test-support/hypercall-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { type Answer, type Call, physmapSpace, XENMEMF_populate_on_demand } from './calls.ts';

/** So few that no emergency sweep reaches its limit of 1024 pages, where a pending preemption may end it (as in Xen). */
const GFNS = 700;

/** What a guest and the toolstack can see of the domain: types, contents, counts. */
function visible(bed: Testbed, d: Domain): unknown {
  const leaf = new Leaf();
  const types: number[] = [];
  for (let g = 0; g < GFNS * 3; g++) {
    peekEntry(bed.h, d, g, leaf);
    types.push(leaf.type, leaf.mfn < bed.h.config.frames ? (bed.h.frames.tag[leaf.mfn] ?? 0) : 0);
  }
  const { totPages, podCount, podEntryCount, maxMappedPfn, poolTotal } = d.r;
  return { types, totPages, podCount, podEntryCount, maxMappedPfn, poolTotal, free: bed.h.heap.freePages };
}

function play(calls: readonly ((domid: number) => Call)[], asGuest: readonly boolean[], preempt: boolean) {
  const bed = bootTestbed({ frames: 16_384 });
  const d = makeGuest(bed, { maxPages: 4096, iommu: true });
  bed.preempt = () => preempt;
  const answers: Answer[] = calls.map((make, i) => {
    if (d.crashed) return { rc: 0 };
    try {
      return hypercall(bed, asGuest[i] ? d : bed.dom0, make(d.domid) as never);
    } catch (error) {
      // The call crashed its own domain between two slices: the next one never runs.
      if (d.crashed) return { rc: 0 };
      throw error;
    }
  });
  expectSound(bed);
  return { crashed: d.crashed, answers, visible: visible(bed, d) };
}

const range = fc.record({ start: fc.integer({ min: 0, max: GFNS - 1 }), count: fc.constantFrom(1, 5, 70, 300) });
const order = fc.constantFrom(0, 0, 0, 4, 9);

/** Every call whose slices may be cut, with arguments that mean the same at every cut. */
const anyCall: fc.Arbitrary<{ make: (domid: number) => Call; guest: boolean }> = fc.oneof(
  fc.tuple(range, order, fc.boolean()).map(([{ start, count }, o, pod]) => ({
    guest: false,
    make: (domid: number): Call => ({
      op: 'populate_physmap',
      domid,
      order: o,
      memFlags: pod ? XENMEMF_populate_on_demand : 0,
      extents: { start: start - (start % 2 ** o), count: Math.min(count, Math.ceil(GFNS / 2 ** o)) },
    }),
  })),
  fc.tuple(range, order).map(([extents, o]) => ({
    guest: true,
    make: (domid: number): Call => ({ op: 'decrease_reservation', domid, order: o, extents }),
  })),
  fc.integer({ min: 0, max: 5 }).map((count) => ({
    guest: false,
    make: (domid: number): Call => ({ op: 'increase_reservation', domid, order: 2, count }),
  })),
  fc.tuple(range, range).map(([from, to]) => ({
    guest: true,
    make: (domid: number): Call => ({
      op: 'add_to_physmap',
      domid,
      space: physmapSpace.gmfnRange,
      idx: from.start,
      gpfn: to.start,
      size: from.count,
    }),
  })),
  fc.tuple(range, range).map(([from, to]) => ({
    guest: true,
    make: (domid: number): Call => ({
      op: 'add_to_physmap_batch',
      domid,
      space: physmapSpace.gmfn,
      foreignDomid: 0,
      idxs: from,
      gpfns: { start: to.start, count: from.count },
    }),
  })),
  range.map((frames) => ({ guest: true, make: (): Call => ({ op: 'store', frames, tag: frames.start + 1 }) })),
  range.map((frames) => ({ guest: true, make: (): Call => ({ op: 'load', frames }) })),
  range.map((frames) => ({ guest: true, make: (): Call => ({ op: 'verify', frames, tag: 1 }) })),
  fc.integer({ min: 3000, max: 6000 }).map((pages) => ({
    guest: false,
    make: (domid: number): Call => ({ op: 'set_paging_mempool_size', domid, bytes: pages * 4096 }),
  })),
);

const setTarget =
  (targetPages: number) =>
  (domid: number): Call => ({ op: 'set_pod_target', domid, targetPages });

describe('preemption', () => {
  it('a call cut at every check ends as the same call run in one piece', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 4000 }), fc.array(anyCall, { maxLength: 8 }), (targetPages, list) => {
        // The cache only grows here: cutting a shrink inside a 2M chunk leaves the rest of it out of the cache, as in Xen.
        const makes = [setTarget(targetPages), ...list.map(({ make }) => make)];
        const guests = [false, ...list.map(({ guest }) => guest)];
        const cut = play(makes, guests, true);
        const whole = play(makes, guests, false);
        // A move of a range holds a reference of each page until its slice ends, and the sweep for zero pages passes held pages
        // by: which page a PoD guest gets back, and whether in time, can then depend on where the call was cut.
        const moves = makes.map((make) => make(1)).some((c) => c.op === 'add_to_physmap');
        const inPod = makes.map((make) => make(1)).some((c) => c.op === 'populate_physmap' && c.memFlags !== 0);
        if (moves && inPod) return;
        expect(cut.crashed).toBe(whole.crashed);
        // A domain that dies of a call dies in the middle of it; how far the call came is not the same then.
        if (!cut.crashed) expect(cut).toEqual(whole);
      }),
      { numRuns: 100 },
    );
  });
});
