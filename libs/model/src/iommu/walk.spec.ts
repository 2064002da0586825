import { describe, expect, it } from 'vitest';
import { tableAt, walkLevel, walkTables, withinWidth } from './walk.ts';

const slots = new Float64Array(new SharedArrayBuffer(8 * 512 * 8));
const RW = 3;
const SP = 8;
const put = (table: number, index: number, frame: number, low: number): void => {
  slots[table * 512 + index] = frame * 65536 + low;
};
// root 1 → 2 → 3 → 4; a 1G leaf in 2, a 2M leaf in 3, 4K leaves in 4
put(1, 0, 2, RW);
put(1, 511, 2, RW);
put(2, 0, 3, RW);
put(2, 1, 0x40000, RW | SP);
put(3, 0, 4, RW);
put(3, 1, 0x600, RW | SP | (9 << 4) | (1 << 14));
put(3, 2, 0x800, 1 | SP);
put(4, 5, 0x123456789, RW);
put(4, 6, 0x99, 1);
put(4, 7, 0x9a, 2);

const frameOf = (slot: number): number => Math.floor(slot / 65536);
const walk = (dfn: number, needed = 1, levels = 4): number => walkTables(slots, 1, dfn, needed, levels);

describe('the hardware walk', () => {
  it('finds 4K leaves, frames above 2^32 too, and says level 0', () => {
    expect(frameOf(walk(5))).toBe(0x123456789);
    expect(walkLevel(walk(5))).toBe(0);
  });

  it('adds the offset inside 2M and 1G leaves and says their level', () => {
    expect(frameOf(walk(512 + 7))).toBe(0x600 + 7);
    expect(walkLevel(walk(512 + 7))).toBe(1);
    expect(frameOf(walk(0x40000 + 0x3fffe))).toBe(0x40000 + 0x3fffe);
    expect(walkLevel(walk(0x40000))).toBe(2);
  });

  it('walks addresses of 48 bits', () => {
    expect(frameOf(walk(511 * 2 ** 27 + 5))).toBe(0x123456789);
  });

  it('refuses a write to an absent or read-only page with reason 5', () => {
    expect(walk(100, 2)).toBe(-5);
    expect(walk(6, 2)).toBe(-5);
    expect(walk(1024, 2)).toBe(-5);
    expect(walk(2 ** 27, 2)).toBe(-5);
  });

  it('refuses a read of an absent or write-only page with reason 6', () => {
    expect(walk(100)).toBe(-6);
    expect(walk(7)).toBe(-6);
    expect(walk(3 * 2 ** 18)).toBe(-6);
  });

  it('tells the tables that it goes through', () => {
    expect([0, 1, 2].map((level) => tableAt(slots, 1, 5, 4, level))).toEqual([4, 3, 2]);
    expect(tableAt(slots, 1, 513, 4, 0)).toBe(0);
    expect(tableAt(slots, 2, 5, 3, 0)).toBe(4);
  });

  it('starts lower where a unit has three levels, or where a cached table is known', () => {
    expect(frameOf(walkTables(slots, 2, 5, 1, 3))).toBe(0x123456789);
    expect(frameOf(walkTables(slots, 4, 512 * 9 + 5, 1, 1))).toBe(0x123456789);
    expect(withinWidth(2 ** 27 - 1, 3)).toBe(true);
    expect(withinWidth(2 ** 27, 3)).toBe(false);
  });
});
