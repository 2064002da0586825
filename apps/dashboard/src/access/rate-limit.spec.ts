import { expect, test } from 'vitest';
import { RateLimit } from './rate-limit.ts';

test('a burst, then the steady rate; each visitor has a bucket of his own', () => {
  const limit = new RateLimit({ perSecond: 10, burst: 3 });
  expect([1, 2, 3, 4].map(() => limit.take('a', 0))).toEqual([true, true, true, false]);
  expect(limit.take('b', 0)).toBe(true);
  expect(limit.take('a', 50)).toBe(false);
  expect(limit.take('a', 150)).toBe(true);
  expect(limit.take('a', 150)).toBe(false);
});

test('ten thousand visitors take no more room than some, and a shut-out one is not let in by them', () => {
  const limit = new RateLimit({ perSecond: 0.001, burst: 1 });
  for (let i = 0; i < 10_000; i++) limit.take(`visitor ${i}`, i);
  expect(limit.take('visitor 9999', 10_000)).toBe(false);
});
