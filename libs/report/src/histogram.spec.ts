import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Histogram } from './histogram.ts';

describe('Histogram', () => {
  it('tells percentiles to about three per cent, never below the truth by more than a bucket, and the maximum exactly', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 2 ** 43 }), { minLength: 1, maxLength: 300 }),
        fc.constantFrom(1, 50, 90, 99, 100),
        (values, percent) => {
          const h = new Histogram();
          for (const v of values) h.record(v);
          const sorted = values.toSorted((a, b) => a - b);
          const truth = sorted[Math.max(0, Math.ceil((percent / 100) * values.length - 1e-9) - 1)] as number;
          expect(h.percentile(percent)).toBeGreaterThanOrEqual(truth);
          expect(h.percentile(percent)).toBeLessThanOrEqual(truth * 1.04 + 1);
          expect([h.max, h.count]).toEqual([sorted.at(-1), values.length]);
        },
      ),
    );
  });

  it('adds up what several threads recorded', () => {
    const [a, b, both] = [new Histogram(), new Histogram(), new Histogram()];
    for (let i = 0; i < 100; i++) (i % 2 === 0 ? a : b).record(i);
    both.add(a);
    both.add(b);
    expect([both.count, both.max, both.mean, both.percentile(50)]).toEqual([100, 99, 49.5, 49]);
    both.clear();
    expect([both.count, both.max, both.mean, both.percentile(99)]).toEqual([0, 0, 0, 0]);
  });

  it('a stall counts for all who would have come meanwhile', () => {
    const h = new Histogram();
    for (let i = 0; i < 9_000; i++) h.recordPaced(1, 10);
    h.recordPaced(10_000, 10);
    expect(h.count).toBeCloseTo(9_001 + 999, 6);
    // a tenth of the time was the stall, so the 95th percentile lies in its middle
    expect(h.percentile(95)).toBeGreaterThan(4_500);
    expect(h.percentile(95)).toBeLessThan(5_500);
    expect(h.percentile(89)).toBe(1);
  });

  it('goes on in cells that are shared, and refuses others', () => {
    const cells = new Float64Array(new SharedArrayBuffer(Histogram.doubles * 8));
    new Histogram(cells).record(7);
    expect(new Histogram(cells).percentile(100)).toBe(7);
    expect(() => new Histogram(new Float64Array(3))).toThrow('cells');
  });
});
