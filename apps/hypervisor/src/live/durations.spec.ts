import { expect, test } from 'vitest';
import { Durations } from './durations.ts';

test('percentiles are right to about a tenth, the largest is exact, and nothing is 0', () => {
  const d = new Durations();
  expect(d.percentile(0.5)).toBe(0);
  for (let us = 1; us <= 1000; us++) d.add(us);
  expect(d.percentile(0.5) / 500).toBeGreaterThan(0.88);
  expect(d.percentile(0.5) / 500).toBeLessThan(1.12);
  expect(d.percentile(0.99) / 990).toBeGreaterThan(0.88);
  expect(d.percentile(1) / 1000).toBeGreaterThan(0.88);
  expect(d.max).toBe(1000);
  d.clear();
  expect([d.n, d.max, d.percentile(0.99)]).toEqual([0, 0, 0]);
});
