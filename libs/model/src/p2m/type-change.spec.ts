import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bareDomain, bootSmall } from '../../test-support/p2m-fixture.ts';
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { SLOTS_PER_TABLE } from '../shared-memory/table-pages.ts';
import { SLOT_MISCONFIG, SLOT_RIGHTS, SLOT_W, slotLow, slotType } from './entry.ts';
import { leaves } from './lifecycle.ts';
import { resolveMisconfig } from './misconfig.ts';
import { p2mLock, p2mUnlock } from './p2m.ts';
import { Leaf, peekEntry } from './peek-entry.ts';
import { p2mSetEntry } from './set-entry.ts';
import { changeEntryTypeGlobal, changeTypeOne, changeTypeRange, finishTypeChange } from './type-change.ts';
import { p2mAccess, p2mType, p2mTypeName } from './types.ts';

const { ramRw, ramLogdirty, ramRo, populateOnDemand, invalid } = p2mType;

function set(h: Host, d: Domain, g: number, m: number, order: number, type: number): number {
  p2mLock(h, d);
  const rc = p2mSetEntry(h, d, g, m as Mfn, order, type, p2mAccess.rwx);
  p2mUnlock(h, d);
  return rc;
}

function resolve(h: Host, d: Domain, g: number): number {
  p2mLock(h, d);
  const rc = resolveMisconfig(h, d, g);
  p2mUnlock(h, d);
  return rc;
}

function typeAt(h: Host, d: Domain, g: number): string {
  const leaf = new Leaf();
  peekEntry(h, d, g, leaf);
  return p2mTypeName(leaf.type);
}

/** Slots of the root that a walk would stop at. */
const markedInRoot = (h: Host, d: Domain): number =>
  Array.from({ length: SLOTS_PER_TABLE }, (_, i) => h.tables.slots[d.r.p2mRoot * SLOTS_PER_TABLE + i] as number).filter(
    (slot) => (slotLow(slot) & SLOT_MISCONFIG) !== 0,
  ).length;

/** gfns of the oracle: 2 MiB regions 0…3, and one 1 GiB region above them. */
const BASE_1G = 2 ** 18;
const LOW = 8192;
const CELLS = LOW + 2 ** 18 + 1;
/** The two parts of the gfn space that are used, one after the other. */
const cell = (g: number): number => (g < LOW ? g : Math.max(LOW, g - BASE_1G + LOW));

describe('bulk type changes', () => {
  const change = fc.oneof(
    fc.record({
      kind: fc.constantFrom('ram', 'ro', 'pod', 'clear'),
      at: fc.nat(4 * 512 - 1),
      order: fc.constantFrom(0, 0, 4, 9, 10),
    }),
    fc.record({ kind: fc.constantFrom('ram1g', 'clear1g'), at: fc.constant(0), order: fc.constant(18) }),
    fc.record({ kind: fc.constantFrom('global on', 'global off'), at: fc.constant(0), order: fc.constant(0) }),
    fc.record({
      kind: fc.constantFrom('range on', 'range off'),
      at: fc.oneof(fc.nat(4 * 512), fc.integer({ min: BASE_1G - 3, max: BASE_1G + 2000 })),
      order: fc.constantFrom(0, 1, 5, 9, 10, 11, 18, 19),
    }),
    fc.record({
      kind: fc.constantFrom('one on', 'one off', 'resolve'),
      at: fc.oneof(fc.nat(4 * 512 - 1), fc.integer({ min: BASE_1G, max: BASE_1G + 1200 })),
      order: fc.constant(0),
    }),
  );

  it('lazily done agree with a flat map changed at once, whatever is set, split or resolved between, at all orders', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
        const { h } = bootSmall();
        const d = bareDomain(h, 1, 200);
        const oracle = new FlatMap();
        for (const { kind, at, order } of changes) {
          const span = 2 ** order;
          const g = kind.endsWith('1g') ? BASE_1G : at - (at % span);
          apply(h, d, oracle, kind, kind.startsWith('range') ? at : g, span);
        }
        expect(d.crashed).toBe(false);
        const wrong: string[] = [];
        const compare = (g: number): void => {
          if (typeAt(h, d, g) !== oracle.at(g)) wrong.push(`${g}: ${typeAt(h, d, g)}, not ${oracle.at(g)}`);
        };
        for (let g = 0; g < 5 * 512; g++) compare(g);
        for (let g = BASE_1G; g < BASE_1G + 2 ** 18; g += 97) compare(g);
        expect(wrong.slice(0, 3)).toEqual([]);
        // Settled, the tables themselves say the same, rights included.
        expect(finishTypeChange(h, d, 0, 2 ** 20)).toBe(0);
        for (const { gfn, slot } of leaves(h, d)) {
          const low = slotLow(slot);
          const writable = (low & SLOT_W) !== 0;
          const type = slotType(low);
          if ((low & SLOT_MISCONFIG) !== 0 || p2mTypeName(type) !== oracle.at(gfn) || writable !== (type === ramRw)) {
            wrong.push(`${gfn}: ${low}`);
          }
        }
        expect(wrong.slice(0, 3)).toEqual([]);
      }),
      { numRuns: 100 },
    );
  });

  /** What every gfn is (type + 1, 0 = nothing), and which are log-dirty by range or altogether; a change is carried out at once. */
  class FlatMap {
    readonly types = new Uint8Array(CELLS);
    readonly ranges = new Uint8Array(CELLS);
    global = false;
    max = 0;

    at(g: number): string {
      const type = this.types[cell(g)] ?? 0;
      return type === 0 ? 'mmioDm' : p2mTypeName(type - 1);
    }
    set(first: number, pages: number, type: number | null): void {
      this.types.fill(type === null ? 0 : type + 1, cell(first), cell(first) + pages);
      if (type !== null) this.max = Math.max(this.max, first + pages - 1);
    }
    recompute(first: number, last: number): void {
      for (let i = cell(first); i <= cell(last); i++) {
        const type = (this.types[i] ?? 0) - 1;
        if (type !== ramRw && type !== ramLogdirty) continue;
        this.types[i] = (this.global || this.ranges[i] === 1 ? ramLogdirty : ramRw) + 1;
      }
    }
  }

  function apply(h: Host, d: Domain, oracle: FlatMap, kind: string, g: number, span: number): void {
    const end = g + span;
    switch (kind) {
      case 'ram':
      case 'ro':
      case 'ram1g': {
        const type = kind === 'ro' ? ramRo : ramRw;
        expect(set(h, d, g, g + 2 ** 20, Math.log2(span), type)).toBe(0);
        oracle.set(g, span, type);
        return;
      }
      case 'pod':
        expect(set(h, d, g, INVALID_MFN, Math.log2(span), populateOnDemand)).toBe(0);
        oracle.set(g, span, populateOnDemand);
        return;
      case 'clear':
      case 'clear1g':
        expect(set(h, d, g, INVALID_MFN, Math.log2(span), invalid)).toBe(0);
        oracle.set(g, span, null);
        return;
      case 'global on':
      case 'global off':
        oracle.global = kind === 'global on';
        if (oracle.global) changeEntryTypeGlobal(h, d, ramRw, ramLogdirty);
        else changeEntryTypeGlobal(h, d, ramLogdirty, ramRw);
        oracle.recompute(0, oracle.max);
        return;
      case 'range on':
      case 'range off': {
        const on = kind === 'range on';
        changeTypeRange(h, d, g, end, on ? ramRw : ramLogdirty, on ? ramLogdirty : ramRw);
        const last = Math.min(end - 1, oracle.max);
        if (last >= g) oracle.ranges.fill(on ? 1 : 0, cell(g), cell(last) + 1);
        oracle.recompute(g, last);
        return;
      }
      case 'one on':
      case 'one off': {
        const [from, to] = kind === 'one on' ? [ramRw, ramLogdirty] : [ramLogdirty, ramRw];
        const fits = oracle.at(g) === p2mTypeName(from);
        expect(changeTypeOne(h, d, g, from, to)).toBe(fits ? 0 : -errno.EBUSY);
        if (fits) oracle.set(g, 1, to);
        return;
      }
      default:
        expect(resolve(h, d, g)).toBeGreaterThanOrEqual(0);
    }
  }

  it('a change of everything writes one slot a GiB of the top table, and a touch settles only its own path', () => {
    const { h } = bootSmall();
    const d = bareDomain(h, 1);
    for (let region = 0; region < 4; region++) set(h, d, region * 512, 4096 + region * 512, 9, ramRw);
    set(h, d, 2048, 8000, 0, ramRw);
    changeEntryTypeGlobal(h, d, ramRw, ramLogdirty);
    expect(markedInRoot(h, d)).toBe(1);
    const stored = (): string[] => [...leaves(h, d)].map(({ slot }) => p2mTypeName(slotType(slotLow(slot))));
    expect(stored()).toEqual(['ramRw', 'ramRw', 'ramRw', 'ramRw', 'ramRw']);
    expect(typeAt(h, d, 1500)).toBe('ramLogdirty');
    expect(resolve(h, d, 1500)).toBe(1);
    expect(stored()).toEqual(['ramRw', 'ramRw', 'ramLogdirty', 'ramRw', 'ramRw']);
    expect(resolve(h, d, 1500)).toBe(0);
    expect(markedInRoot(h, d)).toBe(0);
  });

  it('changed back before anybody touched it, an entry never changes at all', () => {
    const { h } = bootSmall();
    const d = bareDomain(h, 1);
    set(h, d, 512, 4096, 9, ramRw);
    changeEntryTypeGlobal(h, d, ramRw, ramLogdirty);
    changeEntryTypeGlobal(h, d, ramLogdirty, ramRw);
    expect(resolve(h, d, 600)).toBe(1);
    const [leaf] = leaves(h, d);
    expect([slotType(slotLow(leaf?.slot ?? 0)), slotLow(leaf?.slot ?? 0) & SLOT_RIGHTS]).toEqual([ramRw, 7]);
    expect(h.counters.read('p2m.split')).toBe(0);
  });

  it('a range that ends inside a superpage splits it, and only there', () => {
    const { h } = bootSmall();
    const d = bareDomain(h, 1);
    for (let region = 0; region < 3; region++) set(h, d, region * 512, 4096 + region * 512, 9, ramRw);
    changeTypeRange(h, d, 0, 512 + 7, ramRw, ramLogdirty);
    expect(h.counters.read('p2m.split')).toBe(1);
    expect([0, 511, 512, 518, 519, 1024].map((g) => typeAt(h, d, g))).toEqual([
      'ramLogdirty',
      'ramLogdirty',
      'ramLogdirty',
      'ramLogdirty',
      'ramRw',
      'ramRw',
    ]);
  });

  it('a superpage of which a part is log-dirty by range is split when the change of everything reaches it', () => {
    const { h } = bootSmall();
    const d = bareDomain(h, 1);
    set(h, d, 512, 4096, 9, ramRw);
    changeTypeRange(h, d, 512, 516, ramRw, ramLogdirty);
    set(h, d, 512, 4096, 9, ramRw);
    changeEntryTypeGlobal(h, d, ramRw, ramLogdirty);
    changeEntryTypeGlobal(h, d, ramLogdirty, ramRw);
    const before = h.counters.read('p2m.split');
    expect(resolve(h, d, 700)).toBe(1);
    expect(h.counters.read('p2m.split')).toBe(before + 1);
    expect([515, 516, 700].map((g) => typeAt(h, d, g))).toEqual(['ramLogdirty', 'ramRw', 'ramRw']);
  });

  it('no table memory at the ends of a range crashes the domain and says which gfns; a single entry answers -ENOMEM', () => {
    const { h, log } = bootSmall();
    const d = bareDomain(h, 1);
    set(h, d, 512, 4096, 9, ramRw);
    set(h, d, 1024, 4608, 9, ramRw);
    while (d.pool.shift() >= 0);
    expect(changeTypeOne(h, d, 600, ramRw, ramLogdirty)).toBe(-errno.ENOMEM);
    expect(d.crashed).toBe(false);
    changeTypeRange(h, d, 515, 520, ramRw, ramLogdirty);
    expect(d.crashed).toBe(true);
    expect(log.lines).toContain('Error -12 changing Dom1 GFNs [203,207] from 0 to 2');
  });

  it('what lies above the highest mapped gfn is cut off, with a warning', () => {
    const { h, log } = bootSmall();
    const d = bareDomain(h, 1);
    set(h, d, 5, 4096, 0, ramRw);
    changeTypeRange(h, d, 0, 100, ramRw, ramLogdirty);
    expect(log.lines).toEqual(['Dom1 logdirty rangeset clipped to max_mapped_pfn']);
    expect(typeAt(h, d, 5)).toBe('ramLogdirty');
    expect([d.r.logdirtyRanges[0], d.r.logdirtyRanges[1]]).toEqual([0, 5]);
  });

  it('a set resolves its path first, and fails whole when that needs a split and there is no memory', () => {
    const { h } = bootSmall();
    const d = bareDomain(h, 1);
    set(h, d, 512, 4096, 9, ramRw);
    changeTypeRange(h, d, 512, 516, ramRw, ramLogdirty);
    set(h, d, 512, 4096, 9, ramRw);
    changeEntryTypeGlobal(h, d, ramRw, ramLogdirty);
    changeEntryTypeGlobal(h, d, ramLogdirty, ramRw);
    while (d.pool.shift() >= 0);
    expect(set(h, d, 512, 8192, 9, ramRw)).toBe(-errno.ENOMEM);
    const leaf = new Leaf();
    expect([peekEntry(h, d, 512, leaf), leaf.order]).toEqual([4096, 9]);
  });
});
