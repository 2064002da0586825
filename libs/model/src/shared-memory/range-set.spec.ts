import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addRange, containsRange, overlapsRange, removeRange } from './range-set.ts';

const cells = (ranges: number): Float64Array<SharedArrayBuffer> => new Float64Array(new SharedArrayBuffer(ranges * 16));

describe('range set', () => {
  it('agrees with a set of numbers after any additions and removals, and stays sorted, disjoint and merged', () => {
    const change = fc.record({ add: fc.boolean(), first: fc.nat(60), length: fc.integer({ min: 1, max: 20 }) });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 30 }), fc.nat(70), fc.nat(70), (changes, a, b) => {
        const set = cells(40);
        const oracle = new Set<number>();
        let count = 0;
        for (const { add, first, length } of changes) {
          const last = first + length - 1;
          count = add ? addRange(set, count, first, last) : removeRange(set, count, first, last);
          for (let n = first; n <= last; n++) add ? oracle.add(n) : oracle.delete(n);
        }
        for (let i = 1; i < count; i++) {
          expect(set[i * 2] as number).toBeGreaterThan((set[i * 2 - 1] as number) + 1);
        }
        const [first, last] = [Math.min(a, b), Math.max(a, b)];
        const inside = Array.from({ length: last - first + 1 }, (_, i) => oracle.has(first + i));
        expect(containsRange(set, count, first, last)).toBe(inside.every(Boolean));
        expect(overlapsRange(set, count, first, last)).toBe(inside.some(Boolean));
      }),
    );
  });

  it('says so when there is no room, and changes nothing', () => {
    const set = cells(1);
    expect(addRange(set, 0, 5, 9)).toBe(1);
    expect(addRange(set, 1, 20, 20)).toBe(-1);
    expect(removeRange(set, 1, 7, 7)).toBe(-1);
    expect(containsRange(set, 1, 5, 9)).toBe(true);
  });
});
