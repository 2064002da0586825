import { describe, expect, it } from 'vitest';
import { testGpu } from '../../test-support/gpu-fixture.ts';
import { smallConfig } from '../../test-support/p2m-fixture.ts';
import { compareDesigns, type Design, type DesignRow } from './design-comparison.ts';

const host = smallConfig({
  frames: 32_768,
  busFrames: 4096,
  mediatedGpus: [{ ...testGpu, gmPages: 1024, aperturePages: 256 }],
});

function compare(guests: number, shadowed: number): Record<Design, DesignRow> {
  const rows = compareDesigns(host, { guests, guestPages: 2048, dom0Pages: 4096, shadowed });
  return Object.fromEntries(rows.map((row) => [row.design, row])) as Record<Design, DesignRow>; // one row per design
}

describe('the designs side by side', () => {
  const { A, B, C } = compare(2, 200);

  it('cost the same for a write that names a frame known already: the trap', () => {
    for (const { perPteWrite } of [A, B, C]) {
      expect(perPteWrite).toEqual({
        ioreqs: 1,
        hypercalls: 0,
        p2mWrites: 0,
        ioWrites: 0,
        cpuFlushes: 0,
        iotlbFlushes: 0,
        gpuFlushes: 0,
        compares: 0,
      });
    }
  });

  it('differ in what a new frame costs: a query, an I/O entry, or a p2m entry as well; none needs a flush', () => {
    const figures = [A, B, C].map(({ perNewFrame: c }) => [c.hypercalls, c.ioWrites, c.p2mWrites, c.iotlbFlushes]);
    expect(figures).toEqual([
      [1, 0, 0, 0],
      [1, 1, 0, 0],
      [1, 1, 1, 0],
    ]);
    for (const { perNewFrameBatched: c } of [A, B, C]) expect(c.hypercalls).toBeLessThan(0.02);
  });

  it('differ in what a balloon costs: B flushes once for all frames of the guest, C once for each', () => {
    expect(A.perBalloon.iotlbFlushes).toBe(0);
    expect(B.perBalloon.iotlbFlushes).toBeLessThan(20);
    // The first guest's frames: 200, 32 written one by one, a table's worth.
    expect(C.perBalloon.iotlbFlushes).toBeGreaterThanOrEqual(200 + 32 + 512);
    expect([A, B, C].map(({ perBalloon }) => perBalloon.gpuFlushes > 0)).toEqual([true, true, true]);
  });

  it('differ in what they expose: all of RAM, or beyond what is shadowed only the tables that the mediator reads', () => {
    for (const { exposure: e } of [A, B, C]) {
      expect(e.reachable).toBe(e.own + e.shadowed + e.beyond);
      expect(e.shadowed).toBe(2 * 200 + 32 + 512);
    }
    const [{ start, end }] = host.heapRanges as readonly [{ start: number; end: number }];
    expect(A.exposure.reachable).toBe(end - start);
    expect([B.exposure.beyond, C.exposure.beyond]).toEqual([9, 9]);
  });

  it('differ in what holds a ballooned frame: nothing in A, and the GPU was there', () => {
    expect([A, B, C].map(({ violations }) => violations)).toEqual([['noGpuReachIntoFreedFrame'], [], []]);
    expect([A, B, C].map(({ balloonedFrame }) => balloonedFrame.startsWith('kept'))).toEqual([false, true, true]);
  });

  it('scan each table at submission when writes do not trap', () => {
    for (const { perRelaxedSubmit: c } of [A, B, C]) expect([c.compares, c.ioreqs]).toEqual([4 * 512, 0]);
  });
});

it('the figures follow the guests: three of them expose three times the tables', () => {
  const { B, C } = compare(3, 50);
  expect([B.exposure.shadowed, B.exposure.beyond]).toEqual([3 * 50 + 32 + 512, 3 * 4 + 1]);
  expect(C.exposure.beyond).toBe(13);
});
