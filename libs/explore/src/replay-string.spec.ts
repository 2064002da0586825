import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatReplay, parseReplay, ReplayStringError } from './replay-string.ts';

describe('replay string', () => {
  it('every recorded schedule survives the trip through its string, whatever its names', () => {
    const recorded = fc.record(
      {
        path: fc.string({ minLength: 1, unit: 'grapheme' }).filter((s) => s.isWellFormed()),
        variant: fc.string({ minLength: 1, unit: 'grapheme' }).filter((s) => s.isWellFormed()),
        runs: fc
          .array(fc.tuple(fc.constantFrom(...'ABCDEFGH'), fc.integer({ min: 1, max: 99_999 })))
          .map((r) => r.map(([a, n]) => `${a}${n}`).join('')),
        hash: fc.stringMatching(/^[0-9a-f]{16}$/),
        failAt: fc.nat(),
        args: fc.array(fc.nat(), { minLength: 1, maxLength: 8 }),
        mutant: fc.record({ actor: fc.nat(7), step: fc.nat() }),
        operations: fc.array(fc.integer(), { minLength: 1, maxLength: 8 }),
      },
      { requiredKeys: ['path', 'variant', 'runs', 'hash'] },
    );
    fc.assert(
      fc.property(recorded, (r) => {
        const text = formatReplay(r as Parameters<typeof formatReplay>[0]); // fast-check's optional keys are absent, not undefined
        expect(text).toMatch(/^[A-Za-z0-9_./:%-]+$/);
        expect(parseReplay(text)).toEqual(r);
      }),
    );
  });

  it.each([
    ['', "'' is no replay string"],
    ['nonsense', "'nonsense' is no replay string"],
    ['hl2:litmus/x.ts:a:A1:0123456789abcdef', 'of version hl2, this hostloom reads hl1'],
    ['hl1:litmus/x.ts:a:Z1:0123456789abcdef', "'Z1' is no schedule"],
    ['hl1:litmus/x.ts:a:A1:012345', "'012345' is no check"],
    ['hl1:litmus/x.ts:a:A1:0123456789abcdef:x9', "'x9' is not known"],
    ['hl1::a:A1:0123456789abcdef', 'names no litmus test'],
    ['hl1:litmus/%zz:a:A1:0123456789abcdef', "'litmus/%zz' is no name"],
  ])('%j is refused with a message', (text, message) => {
    expect(() => parseReplay(text)).toThrow(ReplayStringError);
    expect(() => parseReplay(text)).toThrow(message);
  });
});
