import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { OperatorError } from './operator-error.ts';
import { address } from './yaml-fields.ts';
import { YamlSource } from './yaml-source.ts';

function mistakes(text: string, schema?: z.ZodType): string[] {
  try {
    const source = new YamlSource(text, 'f.yaml');
    if (schema) source.check(schema, []);
    source.throwIfAny();
    return [];
  } catch (error) {
    if (error instanceof OperatorError)
      return error.problems.map((p) => `${p.line}:${p.column} ${p.message} / ${p.remedy}`);
    throw error;
  }
}

describe('text', () => {
  it('says where the YAML itself is broken', () => {
    expect(mistakes('a: 1\nb: [1, 2\nc: 3')[0]).toMatch(/^[23]:\d+ not valid YAML: /);
    expect(mistakes('a: 1\na: 2')).toEqual(['2:1 not valid YAML: Map keys must be unique / keep one of the two keys']);
  });

  it('keeps numbers in hex as they were written, also below aliases', () => {
    expect(new YamlSource('a: &x { n: 0xAD000000 }\nb: *x\nc: 12', 'f').data).toEqual({
      a: { n: '0xAD000000' },
      b: { n: '0xAD000000' },
      c: 12,
    });
  });

  it('refuses aliases that are unknown, contain themselves or multiply without end', () => {
    expect(mistakes('a: *nowhere')[0]).toMatch(/^1:4 .*alias/);
    expect(mistakes('a: &x [*x]')[0]).toMatch(/alias that contains itself/);
    const lines = ['a0: &a0 [1,1,1,1,1,1,1,1,1,1]'];
    for (let i = 1; i < 9; i++)
      lines.push(
        `a${i}: &a${i} [${Array(10)
          .fill(`*a${i - 1}`)
          .join(',')}]`,
      );
    expect(mistakes(lines.join('\n'))[0]).toMatch(/too large/);
  });

  it('refuses keys that are no words', () => {
    expect(mistakes('a: 1\n__proto__: { b: 1 }')).toEqual([
      '2:1 a key must be a plain word / name the key with letters, digits, - or _',
    ]);
    expect(mistakes('? [1]\n: 2')[0]).toMatch(/a key must be a plain word/);
  });

  it('tells the line of a value, of its key, and of the first line of a block of text', () => {
    const source = new YamlSource('a:\n  b: |\n    x = 1\n    y = 2\n  c:\n    - 1\n    - 2\n', 'f');
    expect([source.line(['a', 'c', 1]), source.keyLine(['a', 'c']), source.textLine(['a', 'b'])]).toEqual([7, 5, 3]);
    expect(source.line(['a', 'nothing', 4])).toBe(1);
  });
});

describe('schema', () => {
  const item = z.discriminatedUnion('do', [
    z.strictObject({ do: z.literal('go'), speed: z.int().min(1).max(9) }),
    z.strictObject({ do: z.literal('stop') }),
  ]);
  const schema = z.strictObject({
    name: z.string(),
    mode: z.enum(['on', 'off']).default('on'),
    list: z.array(item).optional(),
    bound: z.union([z.int(), z.strictObject({ atLeast: z.int() })]).optional(),
    where: address.optional(),
  });

  it('points at an unknown key, guesses the right one and lists those allowed', () => {
    expect(mistakes('name: x\nmoed: on', schema)).toEqual([
      '2:1 unknown key `moed` (did you mean `mode`?) / keys allowed here: name, mode, list, bound, where',
    ]);
    expect(mistakes('name: x\nlist:\n  - do: go\n    speed: 1\n    sped: 2', schema)).toEqual([
      '5:5 unknown key `sped` (did you mean `speed`?) / keys allowed here: do, speed',
    ]);
  });

  it('names a missing key where it should stand', () => {
    expect(mistakes('mode: off', schema)).toEqual(['1:1 missing key `name` / add `name`']);
    expect(mistakes('name: x\nlist:\n  - speed: 2', schema)).toEqual([
      '3:5 missing key `do` / add `do`: one of go, stop',
    ]);
  });

  it('says what a value must be and what it is', () => {
    expect(
      mistakes('name: 5\nmode: offf\nlist: [{ do: goo }, { do: go, speed: 10 }, { do: go, speed: 1.5 }]', schema),
    ).toEqual([
      '1:7 `name` must be a text, not 5 / correct the value',
      '2:7 `mode` cannot be "offf" (did you mean `off`?) / use one of: on, off',
      '3:14 `do` cannot be "goo" (did you mean `go`?) / use one of: go, stop',
      '3:38 `speed` must be at most 9, not 10 / correct the value',
      '3:61 `speed` must be a whole number, not 1.5 / correct the value',
    ]);
    expect(mistakes('name: x\nmode: true', schema)).toEqual(['2:7 `mode` cannot be true / write on']);
  });

  it('reports inside the branch of a union that was meant', () => {
    expect(mistakes('name: x\nbound: { atLest: 1 }', schema)).toContain(
      '2:10 unknown key `atLest` (did you mean `atLeast`?) / keys allowed here: atLeast',
    );
  });

  it('refuses an address without 0x and says how to write it', () => {
    expect(mistakes('name: x\nwhere: 100000', schema)).toEqual([
      '2:8 `where`: must be an address in hex, not 100000 / write it with 0x, as in 0xad000000',
    ]);
  });

  it('gathers all mistakes, in the order of the file', () => {
    expect(mistakes('zzz: 1\nmode: 3\nlist: 4', schema).map((m) => m.slice(0, 3))).toEqual([
      '1:1',
      '1:1',
      '2:7',
      '3:7',
    ]);
  });
});
