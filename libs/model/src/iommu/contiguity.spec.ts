import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { emptyTable, entryKind, markerOf, updateMarkers, withoutMarker } from './contiguity.ts';

const table = (): Float64Array<SharedArrayBuffer> => {
  const slots = new Float64Array(new SharedArrayBuffer(512 * 8));
  slots.set(emptyTable);
  return slots;
};

const RW = 3;
const SP = 8;
/** What a leaf of `level` for `frame` looks like. */
const leaf = (frame: number, level: number, low = RW): number => frame * 65536 + low + (level > 0 ? SP : 0);
const span = (level: number): number => 512 ** level;

type Cell = { kind: 'absent' } | { kind: 'leaf'; frame: number; low: number } | { kind: 'table' };

/** Log2 of the run that starts at i, by its definition. */
function runOrder(cells: readonly Cell[], i: number, level: number): number {
  const cell = cells[i] as Cell;
  const most = i === 0 ? 9 : 31 - Math.clz32(i & -i);
  const inPlace = (c: Cell, at: number): boolean => c.kind !== 'leaf' || Math.floor(c.frame / span(level)) % 512 === at;
  if (cell.kind === 'table' || !inPlace(cell, i)) return 0;
  for (let order = most; order > 0; order--) {
    let whole = true;
    for (let k = 1; k < 2 ** order && whole; k++) {
      const other = cells[i + k] as Cell;
      whole =
        cell.kind === 'absent'
          ? other.kind === 'absent'
          : other.kind === 'leaf' && other.low === cell.low && other.frame === cell.frame + k * span(level);
    }
    if (whole) return order;
  }
  return 0;
}

describe('contiguity markers', () => {
  it('are those of an empty table at the start: entry 0 says 9, the others ctz(i)', () => {
    const slots = table();
    const cells = Array.from({ length: 512 }, (): Cell => ({ kind: 'absent' }));
    for (let i = 0; i < 512; i++) expect(markerOf(slots[i] as number)).toBe(runOrder(cells, i, 0));
  });

  it('say after any sequence of stores what counting would say, and answer true exactly when the table is whole', () => {
    const change = fc.record({
      // Runs make whole tables reachable: start, length, and where the frames begin.
      from: fc.oneof(fc.constantFrom(0, 256, 128, 64), fc.integer({ min: 0, max: 511 })),
      count: fc.constantFrom(1, 1, 2, 8, 64, 256, 512),
      what: fc.constantFrom('same', 'same', 'same', 'other', 'readOnly', 'shifted', 'absent', 'absent', 'table'),
    });
    fc.assert(
      fc.property(fc.constantFrom(0, 1), fc.array(change, { minLength: 1, maxLength: 10 }), (level, changes) => {
        const slots = table();
        const cells = Array.from({ length: 512 }, (): Cell => ({ kind: 'absent' }));
        for (const { from, count, what } of changes) {
          for (let i = from; i < Math.min(512, from + count); i++) {
            const base = what === 'other' ? 4096 : what === 'shifted' ? 2049 : 1024;
            const frame = (base * 512 + i) * span(level);
            const low = what === 'readOnly' ? 1 : RW;
            const absent = what === 'absent';
            const isTable = what === 'table' && level > 0;
            cells[i] =
              absent || (what === 'table' && !isTable)
                ? { kind: 'absent' }
                : isTable
                  ? { kind: 'table' }
                  : { kind: 'leaf', frame, low };
            const cell = cells[i] as Cell;
            slots[i] =
              cell.kind === 'absent'
                ? 0
                : cell.kind === 'table'
                  ? 77 * 65536 + RW
                  : leaf(frame + (what === 'shifted' ? span(level) * 3 : 0), level, low);
            if (cell.kind === 'leaf' && what === 'shifted')
              cells[i] = { kind: 'leaf', frame: frame + span(level) * 3, low };
            const whole = updateMarkers(slots, 0, i, level, entryKind[cell.kind]);
            expect(whole).toBe(runOrder(cells, 0, level) === 9);
          }
        }
        for (let i = 0; i < 512; i++) {
          expect(markerOf(slots[i] as number), `entry ${i}`).toBe(runOrder(cells, i, level));
        }
      }),
      { numRuns: 150 },
    );
  });

  it('leave the rest of a slot as it is', () => {
    const slots = table();
    slots[5] = leaf(5, 0);
    updateMarkers(slots, 0, 5, 0, entryKind.leaf);
    expect(withoutMarker(slots[5] as number)).toBe(leaf(5, 0));
  });
});
