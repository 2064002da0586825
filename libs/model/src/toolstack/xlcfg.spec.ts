import { describe, expect, it } from 'vitest';
import { Xlcfg } from './xlcfg.ts';
import { parseXlcfg } from './xlcfg-parser.ts';

const config = (text: string): Xlcfg => new Xlcfg(parseXlcfg(text, 'g.cfg').settings, 'g.cfg');

describe('reading settings by key', () => {
  it('numbers follow C: octal, hexadecimal, quoted, signed inside quotes', () => {
    const c = config('a=010\nb=0x10\nc="-3"\nd=" 7"\n');
    expect(['a', 'b', 'c', 'd'].map((key) => c.getNumber(key))).toEqual([8, 16, -3, 7]);
    expect(c.warnings).toEqual([]);
  });

  it('garbage, a sum and an overflow are absent, each with its warning', () => {
    const c = config('a="x"\nb=1\nb+=2\nc=99999999999999999999\n');
    expect(['a', 'b', 'c'].map((key) => c.getNumber(key))).toEqual([undefined, undefined, undefined]);
    expect(c.warnings).toEqual([
      "g.cfg:1: warning: parameter `a' is not a valid number",
      "g.cfg:3: warning: can't use += with numbers for parameter `b'",
      "g.cfg:4: warning: parameter `c' could not be parsed as a number: Numerical result out of range",
    ]);
  });

  it('a list read as a value, and the other way round, is absent with a warning', () => {
    const c = config('a=[1]\nb=1\n');
    expect([c.getString('a'), c.getList('b'), c.getString('none')]).toEqual([undefined, undefined, undefined]);
    expect(c.warnings).toEqual([
      "g.cfg:1: warning: parameter `a' is a list but should be a single value",
      "g.cfg:2: warning: parameter `b' is a single value but should be a list",
    ]);
  });

  it('keeps 64-bit numbers exact as text', () => {
    expect(config('a=9223372036854775807').getLong('a')?.decimal).toBe('9223372036854775807');
  });
});
