import { expect, it } from 'vitest';
import { parseSize } from './size.ts';

it('reads plain, suffixed and hex sizes into bytes', () => {
  expect(['64', '16K', '256M', '32G', '0x1000'].map(parseSize)).toEqual([64, 16384, 2 ** 28, 2 ** 35, 4096]);
});

it('refuses fractions, negatives, unknown suffixes and what no longer counts exactly', () => {
  expect(['1.5G', '-4K', '4kB', '', '999999T', 'K'].map(parseSize)).toEqual(Array(6).fill(null));
});
