import { describe, expect, it } from 'vitest';
import type { Assertion } from '#formats/scenario';
import type { DomainInfo, MemoryMapEntry } from '#model/hypercall/calls';
import { domInfoFlag, shutdownReason } from '#model/hypercall/calls';
import { evaluate } from './evaluate.ts';
import type { FaultRecord } from './records.ts';
import type { TwinState } from './twin-state.ts';

interface Seen {
  readonly console?: readonly string[];
  readonly faults?: readonly Partial<FaultRecord>[];
  readonly violations?: Readonly<Record<string, number>>;
  readonly found?: Readonly<Record<string, number>>;
  readonly domains?: readonly Partial<DomainInfo>[];
  readonly e820?: readonly MemoryMapEntry[];
  readonly errors?: number;
  readonly missing?: number;
}

/** A state in which exactly this was observed. */
function stateOf(seen: Seen): TwinState {
  const found = Object.entries(seen.found ?? {}).map(
    ([invariant, count]) => [invariant, { invariant, count, first: { text: invariant, tsUs: 0 } }] as const,
  );
  const state = {
    twin: { policies: { 'balloon.order': '4k' } },
    verbs: [],
    names: new Map([[1, 'g']]),
    hypervisorKilled: false,
    found: new Map(found),
    observer: {
      console: seen.console ?? [],
      faults: seen.faults ?? [],
      faultCount: seen.faults?.length ?? 0,
      violations: [],
      violationCounts: new Map(Object.entries(seen.violations ?? {})),
      missing: seen.missing ?? 0,
      errors: () => seen.errors ?? 0,
      guests: () => (seen.e820 ? [{ domid: 1, e820: seen.e820 }] : []),
    },
    domain: (name: string) => Promise.resolve(seen.domains?.find((d) => d.name === name) ?? null),
    counters: () => Promise.reject(new Error('the hypervisor is gone')),
  };
  return state as unknown as TwinState; // what evaluation looks at, and no more
}

const line = 1;
const ok = async (assertion: Assertion, seen: Seen): Promise<boolean | 'unknown'> =>
  (await evaluate(assertion, stateOf(seen))).ok;

describe('an assertion', () => {
  it('a violation counts wherever it was noticed: at the step, at a safepoint, by the run', async () => {
    const violated: Assertion = { check: 'violated', invariant: 'neighboursStayMapped', atLeast: 3, line };
    expect(await ok(violated, { violations: { neighboursStayMapped: 2 }, found: { neighboursStayMapped: 1 } })).toBe(
      true,
    );
    expect(await ok(violated, { violations: { neighboursStayMapped: 2 } })).toBe(false);
  });

  it('a family of invariants is violated by any of its members, and * by anything', async () => {
    const family: Assertion = { check: 'never', invariant: 'dmaHitsOnlyFramesOfItsDomain', line };
    expect(await ok(family, { violations: { noDmaToFreedFrame: 1 } })).toBe(false);
    expect(await ok(family, { violations: { neighboursStayMapped: 1 } })).toBe(true);
    expect(await ok({ check: 'never', invariant: '*', line }, { found: { m2pIsInverseOfP2m: 1 } })).toBe(false);
    expect(await ok({ check: 'never', invariant: '*', line }, {})).toBe(true);
  });

  it('a fault is matched by device, page, direction and reason', async () => {
    const fault: Assertion = {
      check: 'fault',
      device: null,
      addr: 0x7d0d6000,
      kind: 'write',
      reason: 5,
      atLeast: 1,
      line,
    };
    const seen = { sbdf: 0x10, dfn: 0x7d0d6, write: true, reason: 5 };
    expect(await ok(fault, { faults: [seen] })).toBe(true);
    expect(await ok(fault, { faults: [{ ...seen, write: false }] })).toBe(false);
    expect(await ok({ check: 'noFault', device: null, line }, { faults: [seen] })).toBe(false);
  });

  it('rows of an E820 must each be there, neighbours of one type count as one, a hole is where nothing is', async () => {
    const e820: MemoryMapEntry[] = [
      { addr: 0x100000, size: 0x100000, type: 1 },
      { addr: 0x200000, size: 0x100000, type: 1 },
      { addr: 0x400000, size: 0x1000, type: 2 },
    ];
    const rows = (...list: Extract<Assertion, { check: 'e820' }>['rows']): Assertion => ({
      check: 'e820',
      guest: 'g',
      rows: list,
      line,
    });
    expect(await ok(rows({ start: 0x100000, end: 0x2fffff, type: 'usable' }), { e820 })).toBe(true);
    expect(await ok(rows({ start: 0x300000, end: 0x3fffff, type: 'hole' }), { e820 })).toBe(true);
    expect(await ok(rows({ start: 0x300000, end: 0x400000, type: 'hole' }), { e820 })).toBe(false);
    expect(await ok(rows({ start: 0x400000, end: 0x400fff, type: 'usable' }), { e820 })).toBe(false);
    expect(await ok(rows({ start: 0x400000, end: 0x400fff, type: 'reserved' }), {})).toBe('unknown');
  });

  it('a guest is crashed, running, destroyed or was never there', async () => {
    const is = (state: Extract<Assertion, { check: 'guest' }>['is'], guest = 'g'): Assertion => ({
      check: 'guest',
      guest,
      is: state,
      line,
    });
    const crashed = { name: 'g', domid: 1, flags: domInfoFlag.shutdown | (shutdownReason.crash << 16) };
    expect(await ok(is('crashed'), { domains: [crashed] })).toBe(true);
    expect(await ok(is('running'), { domains: [crashed] })).toBe(false);
    expect(await ok(is('running'), { domains: [{ ...crashed, flags: 0 }] })).toBe(true);
    expect(await ok(is('destroyed'), {})).toBe(true);
    expect(await ok(is('destroyed', 'other'), {})).toBe(false);
    expect(await ok(is('absent', 'other'), {})).toBe(true);
  });

  it('what could not be found out is unknown, never false', async () => {
    expect(await ok({ check: 'counter', counter: 'dma.faults', atLeast: 1, line }, {})).toBe('unknown');
    const errno: Assertion = { check: 'errno', errno: 'EXDEV', of: 'assign_device', atLeast: 2, line };
    expect(await ok(errno, { errors: 1 })).toBe(false);
    expect(await ok(errno, { errors: 1, missing: 3 })).toBe('unknown');
    expect(await ok(errno, { errors: 2, missing: 3 })).toBe(true);
  });

  it('a console line is found by a regular expression', async () => {
    const dmesg: Assertion = { check: 'dmesg', regex: 'fault addr [0-9a-f]+000', atLeast: 1, line };
    expect(await ok(dmesg, { console: ['(XEN) fault addr 7d0d6000'] })).toBe(true);
    expect(await ok(dmesg, { console: ['(XEN) nothing'] })).toBe(false);
  });
});
