import { describe, expect, it } from 'vitest';
import { bootTestbed, expectSound, hypercall, slice, type Testbed } from '../../test-support/hypercall-fixture.ts';
import type { ContinuationState } from '../hypercall/continuation.ts';
import type { Domain } from './domain.ts';

const PAGES = 4096;
const order9 = (domid: number, count: number) =>
  ({ op: 'populate_physmap', domid, order: 9, memFlags: 0, extents: { start: 0, count } }) as const;

/** A domain that is being built: not unpaused yet. */
function build(bed: Testbed): Domain {
  const spec = { name: 'guest', hvm: true, hap: true, iommu: false, noSharept: false, deviceModel: true, vcpus: 1 };
  const { domid = -1 } = hypercall(bed, bed.dom0, { op: 'createdomain', domid: 0, ...spec });
  hypercall(bed, bed.dom0, { op: 'max_mem', domid, maxKb: PAGES * 4 });
  hypercall(bed, bed.dom0, { op: 'set_paging_mempool_size', domid, bytes: 64 * 4096 });
  return bed.h.domain(domid) as Domain; // just created
}

/** A host whose free memory holds what a dead guest wrote. */
function dirtyHost(): Testbed {
  const bed = bootTestbed({ frames: 8192 });
  const d = build(bed);
  hypercall(bed, bed.dom0, order9(d.domid, 8));
  hypercall(bed, bed.dom0, { op: 'unpausedomain', domid: d.domid });
  hypercall(bed, d, { op: 'store', frames: { start: 0, count: PAGES }, tag: 0x5ec4e7 });
  hypercall(bed, bed.dom0, { op: 'destroydomain', domid: d.domid });
  return bed;
}

const dirtyFrames = (bed: Testbed): number => bed.h.frames.tag.reduce((sum, tag) => sum + (tag === 0 ? 0 : 1), 0);
const tagsOf = (bed: Testbed, d: Domain, count: number) =>
  new Set(hypercall(bed, d, { op: 'load', frames: { start: 0, count } }).tags);

describe('what a dead domain leaves', () => {
  it('stays in the free frames until somebody gets them, and nobody ever sees it', () => {
    const bed = dirtyHost();
    expect(dirtyFrames(bed)).toBe(PAGES);
    const d = build(bed);
    expect(hypercall(bed, bed.dom0, order9(d.domid, 8)).rc).toBe(8);
    hypercall(bed, bed.dom0, { op: 'unpausedomain', domid: d.domid });
    expect(tagsOf(bed, d, PAGES)).toEqual(new Set([0]));
  });

  it('is cleared by the builder in slices of 256 frames, with the block parked between them', () => {
    const bed = dirtyHost();
    const d = build(bed);
    bed.preempt = () => true;
    const call = order9(d.domid, 8);
    const steps: number[] = [];
    let state: ContinuationState | null = null;
    for (;;) {
      const outcome = slice(bed, bed.dom0, call, state);
      if (outcome.end !== 'continue') break;
      state = outcome.state;
      steps.push(d.r.pendingScrub === 0 ? 0 : d.r.pendingScrubDone);
      expectSound(bed);
    }
    expect(steps.filter((done) => done === 256).length).toBeGreaterThanOrEqual(7);
    expect([d.r.totPages, d.r.pendingScrub]).toEqual([PAGES, 0]);
    hypercall(bed, bed.dom0, { op: 'unpausedomain', domid: d.domid });
    expect(tagsOf(bed, d, PAGES)).toEqual(new Set([0]));
  });

  it('a parked block is given up when the next request is for another size, or when the domain is built', () => {
    const bed = dirtyHost();
    const park = (d: Domain): void => {
      bed.preempt = () => true;
      while (d.r.pendingScrub === 0) slice(bed, bed.dom0, order9(d.domid, 8));
      bed.preempt = () => false;
    };
    const first = build(bed);
    park(first);
    const before = first.r.totPages;
    const extents = { start: 4000, count: 1 };
    hypercall(bed, bed.dom0, { op: 'populate_physmap', domid: first.domid, order: 0, memFlags: 0, extents });
    expect([first.r.pendingScrub, first.r.totPages]).toEqual([0, before - 512 + 1]);
    park(first);
    const parked = first.r.totPages;
    hypercall(bed, bed.dom0, { op: 'unpausedomain', domid: first.domid });
    expect([first.r.pendingScrub, first.r.totPages]).toEqual([0, parked - 512]);
    expectSound(bed);
  });

  it('a domain that dies with a parked block gives it back with the rest', () => {
    const bed = dirtyHost();
    const { freePages } = bed.h.heap;
    const d = build(bed);
    bed.preempt = () => true;
    while (d.r.pendingScrub === 0) slice(bed, bed.dom0, order9(d.domid, 8));
    bed.preempt = () => false;
    hypercall(bed, bed.dom0, { op: 'destroydomain', domid: d.domid });
    expect([d.exists, bed.h.heap.freePages]).toEqual([false, freePages]);
    expectSound(bed);
  });
});
