import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { E820_NVS, E820_RAM, E820_RESERVED, type E820Entry, FOUR_GIB } from '../toolstack/e820.ts';
import { E820Overlay } from './e820-overlay.ts';
import { seabiosE820 } from './seabios-e820.ts';

const table = (...ram: readonly (readonly [number, number])[]): E820Entry[] =>
  [
    { addr: 0, size: 0xa0000, type: E820_RAM },
    { addr: 0xc0000, size: 0x40000, type: E820_RESERVED },
    ...ram.map(([start, end]) => ({ addr: start, size: end - start, type: E820_RAM })),
    { addr: 0xfc000000, size: 0xb000, type: E820_NVS },
    { addr: 0xfc00b000, size: FOUR_GIB - 0xfc00b000, type: E820_RESERVED },
  ] as E820Entry[]; // the literals above are E820 types

describe("SeaBIOS's copy of hvmloader's table", () => {
  it('keeps the last KiB of conventional memory, its image below 1 MiB, and the last page of low RAM', () => {
    expect(seabiosE820(table([0x100000, 0x10000000]))).toEqual([
      { addr: 0, size: 0x9fc00, type: E820_RAM },
      { addr: 0x9fc00, size: 0x400, type: E820_RESERVED },
      { addr: 0xf0000, size: 0x10000, type: E820_RESERVED },
      { addr: 0x100000, size: 0xfeff000, type: E820_RAM },
      { addr: 0xffff000, size: 0x1000, type: E820_RESERVED },
      { addr: 0xfc000000, size: 0xb000, type: E820_NVS },
      { addr: 0xfc00b000, size: 0x3ff5000, type: E820_RESERVED },
    ]);
  });

  it('takes nothing from RAM above 4 GiB', () => {
    const map = seabiosE820(table([0x100000, 0xf0000000], [FOUR_GIB, 2 * FOUR_GIB]));
    expect(map.at(-1)).toEqual({ addr: FOUR_GIB, size: FOUR_GIB, type: E820_RAM });
    expect(map).toContainEqual({ addr: 0xeffff000, size: 0x1000, type: E820_RESERVED });
  });

  it('leaves a reserved region below 4 GiB where it is', () => {
    const rmrr: E820Entry = { addr: 0x7fff0000, size: 0x4000, type: E820_RESERVED };
    expect(seabiosE820([...table([0x100000, 0x20000000]), rmrr])).toContainEqual(rmrr);
  });
});

describe('laying ranges over a map', () => {
  it('gives every byte the type laid last, ascending, without overlaps, neighbours of a type joined', () => {
    const range = fc.record({ start: fc.nat(60), length: fc.nat(20), type: fc.constantFrom(0, 1, 2, 3) });
    fc.assert(
      fc.property(fc.array(range, { maxLength: 12 }), (ranges) => {
        const map = new E820Overlay();
        const bytes: number[] = new Array(80).fill(0);
        for (const { start, length, type } of ranges) {
          if (type === 0) map.clear(start, start + length);
          else map.lay(start, start + length, type as E820Entry['type']); // one of 1, 2, 3
          bytes.fill(type, start, start + length);
        }
        const found: number[] = new Array(80).fill(0);
        let [end, before] = [0, 0];
        for (const { addr, size, type } of map.entries) {
          expect(size).toBeGreaterThan(0);
          expect(addr).toBeGreaterThanOrEqual(end);
          if (addr === end) expect(type).not.toBe(before);
          found.fill(type, addr, addr + size);
          [end, before] = [addr + size, type];
        }
        expect(found).toEqual(bytes);
      }),
    );
  });
});
