import fc from 'fast-check';
import { describe, expect, expectTypeOf, it } from 'vitest';
import type { Call, OpName } from '#model/hypercall/calls';
import { errno } from '#model/hypercall/errno';
import { decodeAnswer, encodeAnswer } from './answer-codec.ts';
import { decodeCall, encodeCall, isCallFault } from './call-codec.ts';
import { callSchemas, callTable, LOAD_MAX } from './call-table.ts';
import { CALLS_MAX, decodeEnvelope, encodeEnvelope, mergeAnswers, WIDE_MAX } from './messages.ts';

const throughJson = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
const there = (call: Call): unknown => decodeCall(throughJson(encodeCall(call)));

const extents = fc.oneof(
  fc.record({ start: fc.integer({ min: 0, max: 2 ** 37 }), count: fc.integer({ min: 0, max: 2 ** 16 - 1 }) }),
  fc.array(fc.integer({ min: 0, max: 2 ** 32 - 1 }), { maxLength: 50 }).map((f) => ({ frames: Uint32Array.from(f) })),
  fc
    .array(fc.integer({ min: 2 ** 32, max: 2 ** 37 }), { minLength: 1, maxLength: 50 })
    .map((f) => ({ frames: Float64Array.from(f) })),
);
const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const someCalls: fc.Arbitrary<Call> = fc.oneof(
  fc.record({
    op: fc.constant('populate_physmap' as const),
    domid: fc.integer({ min: 0, max: 0xffff }),
    order: fc.integer({ min: 0, max: 32 }),
    memFlags: u32,
    extents,
  }),
  fc.record({ op: fc.constant('store' as const), frames: extents, tag: u32 }),
  fc.record({ op: fc.constant('console_io' as const), text: fc.string() }),
  fc.record({
    op: fc.constant('device_submit' as const),
    sbdf: u32,
    commands: fc.array(
      fc.record({ kind: fc.constantFrom('read' as const, 'write' as const), frames: extents, tag: u32, repeat: u32 }),
    ),
  }),
);

describe('a call', () => {
  it('arrives as it was sent', () => {
    fc.assert(
      fc.property(someCalls, (call) => {
        expect(there(call)).toEqual(call);
      }),
    );
  });

  it("has in the table exactly the fields that the model's type has", () => {
    type TableFields<N extends OpName> = keyof (typeof callTable)[N];
    type CallFields<N extends OpName> = Exclude<keyof Extract<Call, { op: N }>, 'op'>;
    type Differing = { [N in OpName]: [TableFields<N>] extends [CallFields<N>] ? never : N }[OpName];
    expectTypeOf<Differing>().toEqualTypeOf<never>();
    expectTypeOf<keyof typeof callTable>().toEqualTypeOf<OpName>();
  });

  it('is read or refused exactly as its zod schema says, whatever stands in it', () => {
    const scalar = fc.oneof(
      fc.constantFrom<unknown>(-1, 0, 1.5, 2 ** 37, 2 ** 37 + 1, 2 ** 53, null, true, 'read', '', Number.NaN, -0),
      fc.nat(),
      fc.string({ maxLength: 5 }),
    );
    const packed = fc.record({ p: fc.oneof(fc.base64String(), fc.constantFrom('AAA', 'AAAAAA==', '====', 'AA A')) });
    const value = fc.oneof(scalar, packed, fc.array(fc.oneof(scalar, fc.array(scalar)), { maxLength: 4 }));
    for (const [op, schema] of callSchemas) {
      const width = Object.keys(callTable[op]).length;
      const args = fc.array(value, { minLength: Math.max(0, width - 1), maxLength: width + 1 });
      fc.assert(
        fc.property(args, (fields) => {
          const wire = [op, ...fields];
          expect(isCallFault(decodeCall(wire) as Call), JSON.stringify(wire)).toBe(!schema.safeParse(wire).success);
        }),
        { numRuns: 60 },
      );
    }
  });

  it('that cannot be is EINVAL, one that cannot be read is EFAULT, an unknown one ENOSYS; reading never throws', () => {
    expect(decodeCall(['max_mem', 1, -5])).toEqual({ rc: -errno.EINVAL });
    expect(decodeCall(['max_mem', 1])).toEqual({ rc: -errno.EINVAL });
    expect(decodeCall(['touch', [0, 2 ** 33]])).toEqual({ rc: -errno.EINVAL });
    expect(decodeCall(['touch', { p: 'AAAAAA' }])).toEqual({ rc: -errno.EFAULT });
    expect(decodeCall(['touch', { q: Buffer.from(new Float64Array([0.5]).buffer).toString('base64') }])).toEqual({
      rc: -errno.EINVAL,
    });
    expect(decodeCall(['touch', null])).toEqual({ rc: -errno.EFAULT });
    expect(decodeCall(['constructor'])).toEqual({ rc: -errno.ENOSYS });
    fc.assert(
      fc.property(fc.anything(), (junk) => {
        decodeCall(junk);
        decodeCall(['touch', junk]);
        decodeCall(['set_memory_map', 1, junk]);
      }),
    );
  });

  it("with an order or a count beyond Xen's limits passes, so that Xen's own answer applies", () => {
    const call: Call = {
      op: 'populate_physmap',
      domid: 1,
      order: 19,
      memFlags: 0,
      extents: { start: 0, count: 2 ** 32 },
    };
    expect(there(call)).toEqual(call);
  });
});

describe('an answer', () => {
  it('arrives as it was given, tags packed, a lone result as a number', () => {
    expect(encodeAnswer({ rc: -17 })).toBe(-17);
    for (const answer of [{ rc: 3 }, { rc: 0, tags: [0, 1, 2 ** 32 - 1], faulted: 0 }, { rc: 0, errs: [0, -22] }]) {
      expect(decodeAnswer(throughJson(encodeAnswer(answer)))).toEqual(answer);
    }
  });

  it('of a call that the transport refused stands in that call’s place', () => {
    const merged = mergeAnswers([null, { rc: -22 }, null], [{ rc: 1 }, { rc: 2 }]);
    expect(merged).toEqual([{ rc: 1 }, { rc: -22 }, { rc: 2 }]);
  });
});

describe('an envelope', () => {
  it('holds at most 4096 calls', () => {
    const calls = new Array(CALLS_MAX).fill(['physinfo']);
    expect(decodeEnvelope({ epoch: 'a', incarnation: 1, seq: 1, calls }).calls).toHaveLength(CALLS_MAX);
    expect(() => decodeEnvelope({ epoch: 'a', incarnation: 1, seq: 1, calls: [...calls, 0] })).toThrow(/BAD_ENVELOPE/);
  });

  it('may ask for a bounded number of tags; what is beyond is E2BIG', () => {
    const load: Call = { op: 'load', frames: { start: 0, count: LOAD_MAX } };
    const { calls, faults } = decodeEnvelope(encodeEnvelope('a', 1, 1, new Array(WIDE_MAX / LOAD_MAX + 1).fill(load)));
    expect(calls).toHaveLength(WIDE_MAX / LOAD_MAX);
    expect(faults.at(-1)).toEqual({ rc: -errno.E2BIG });
  });
});
