import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { atoiIsTrue, parseLong, scanHex } from './long.ts';

describe('C number conversions', () => {
  it('decimal text round-trips for every 64-bit value', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (n) => {
        const parsed = parseLong(String(n), 0);
        expect([parsed.decimal, parsed.outOfRange]).toEqual([String(n), false]);
      }),
    );
  });

  it('stops at the first character that is no digit', () => {
    expect(parseLong('12ab', 0)).toMatchObject({ value: 12, length: 2 });
    expect(parseLong('0x', 0)).toMatchObject({ value: 0, length: 1 });
    expect(parseLong('x', 0).length).toBe(0);
  });

  it('%x keeps 32 bits, negates in them, and saturates', () => {
    expect(scanHex(' 0x1f.')).toEqual({ value: 0x1f, length: 5 });
    expect(scanHex('100000002')?.value).toBe(2);
    expect(scanHex('-1')?.value).toBe(0xffffffff);
    expect(scanHex('fffffffffffffffff')?.value).toBe(0xffffffff);
    expect([scanHex('0x.')?.length, scanHex('0x0x')?.length]).toEqual([2, 3]);
    expect(scanHex('g')).toBeNull();
  });

  it('a flag is true for any non-zero int', () => {
    expect(['1', '2x', '-1', 'yes', '', '0', '4294967296'].map(atoiIsTrue)).toEqual([
      true,
      true,
      true,
      false,
      false,
      false,
      false,
    ]);
  });
});
