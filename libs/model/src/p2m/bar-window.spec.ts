import { describe, expect, it } from 'vitest';
import { raceCalls } from '../../test-support/call-race.ts';
import { bootTestbed, expectSound, hypercall, makeGuest } from '../../test-support/hypercall-fixture.ts';
import { type Call, physmapSpace } from '../hypercall/calls.ts';
import { Leaf, peekEntry } from './peek-entry.ts';
import { p2mType } from './types.ts';

const BAR = 0xf0000;
const GFN = 0x600;
const PAGES = 130;

/** A guest whose RAM, 2M and 4K, covers where its device's BAR is to be shown. */
function setUp(pcpus = 2) {
  const bed = bootTestbed({ pcpus });
  const d = makeGuest(bed);
  const { domid } = d;
  const populate = (order: number, start: number, count: number) =>
    hypercall(bed, bed.dom0, { op: 'populate_physmap', domid, order, memFlags: 0, extents: { start, count } });
  populate(9, 0x400, 2);
  populate(0, 0, 8);
  hypercall(bed, bed.dom0, { op: 'iomem_permission', domid, firstMfn: BAR, nrMfns: 1024, allow: true });
  return { bed, d, domid };
}

const mapping = (domid: number, done: number, add: boolean, pages = PAGES): Call & { op: 'memory_mapping' } => ({
  op: 'memory_mapping',
  domid,
  firstGfn: GFN + done,
  firstMfn: BAR + done,
  nrMfns: pages - done,
  add,
});

describe('a BAR placed over guest memory', () => {
  it('takes slices of 64 pieces; the RAM behind loses its gfn, not its owner; taken away it leaves a hole', () => {
    const { bed, d, domid } = setUp();
    const total = d.r.totPages;
    const run = (add: boolean): number[] => {
      const steps: number[] = [];
      for (let done = 0; done < PAGES; ) {
        const { rc } = hypercall(bed, bed.dom0, mapping(domid, done, add));
        steps.push(rc);
        if (rc < 0) throw new Error(`memory_mapping: ${rc}`);
        done += rc === 0 ? PAGES - done : rc;
      }
      return steps;
    };
    expect(run(true)).toEqual([64, 64, 0]);
    const leaf = new Leaf();
    expect([peekEntry(bed.h, d, GFN + 5, leaf), leaf.type]).toEqual([BAR + 5, p2mType.mmioDirect]);
    expect(peekEntry(bed.h, d, GFN + PAGES, leaf) < BAR).toBe(true);
    expectSound(bed);
    expect(run(false)).toEqual([64, 64, 0]);
    peekEntry(bed.h, d, GFN + 5, leaf);
    expect([leaf.type, d.r.totPages]).toEqual([p2mType.mmioDm, total]);
    expectSound(bed);
  });

  it('over a whole superpage is one piece', () => {
    const { bed, domid } = setUp();
    const call = { op: 'memory_mapping', domid, firstGfn: 0x400, firstMfn: BAR, nrMfns: 512, add: true } as const;
    const splits = bed.h.counters.read('p2m.split');
    expect(hypercall(bed, bed.dom0, call).rc).toBe(0);
    expect(bed.h.counters.read('p2m.split')).toBe(splits);
    expectSound(bed);
  });

  it('while others translate, map and store there: whoever comes late finds the device or nothing, and all references are kept', async () => {
    const { bed, d, domid } = setUp(3);
    const extents = { start: GFN, count: PAGES };
    const refill = {
      op: 'populate_physmap',
      domid,
      order: 0,
      memFlags: 0,
      extents: { start: GFN, count: 32 },
    } as const;
    const window: Call[] = [0, 64, 128].map((done) => mapping(domid, done, true));
    const away: Call[] = [0, 64, 128].map((done) => mapping(domid, done, false));
    // dom0's kernel may hold foreign frames of what was RAM a moment ago.
    const foreign = {
      op: 'add_to_physmap_batch',
      domid: 0,
      space: physmapSpace.gmfnForeign,
      foreignDomid: domid,
    } as const;
    const mapForeign: Call = { ...foreign, idxs: { start: GFN, count: 32 }, gpfns: { start: 0x40, count: 32 } };
    const unmap: Call[] = Array.from({ length: 32 }, (_, i) => ({
      op: 'remove_from_physmap',
      domid: 0,
      gpfn: 0x40 + i,
    }));
    const reports = await raceCalls(
      bed.h.shared,
      [
        // A populate over what is left of the BAR would crash the guest (XSA-378), so it comes when the window is gone.
        { domid: 0, calls: [...window, ...away, refill] },
        { domid: 0, calls: [mapForeign, ...unmap] },
        {
          domid,
          calls: [
            { op: 'store', frames: extents, tag: 5 },
            { op: 'load', frames: extents },
          ],
        },
      ],
      60,
    );
    expect(reports.flatMap(({ violations }) => violations)).toEqual([]);
    expect(d.crashed).toBe(false);
    for (const call of unmap) hypercall(bed, bed.dom0, call as never); // whatever is still mapped
    expectSound(bed);
    expect(hypercall(bed, bed.dom0, { op: 'destroydomain', domid }).rc).toBe(0);
    expect(d.exists).toBe(false);
    expectSound(bed);
  });
});
