import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { MemoryMapEntry } from '../hypercall/calls.ts';
import { pvE820, pvhE820, sanitizeE820 } from './linux-e820.ts';

const MIB = 2 ** 20;
const ram = (addr: number, end: number): MemoryMapEntry => ({ addr, size: end - addr, type: 1 });
const reserved = (addr: number, end: number): MemoryMapEntry => ({ addr, size: end - addr, type: 2 });

describe("a Linux kernel's memory map", () => {
  it('gives every byte the highest type that covers it, ascending and disjoint', () => {
    const entry = fc.record({
      addr: fc.nat(60),
      size: fc.nat(20),
      type: fc.constantFrom(1 as const, 2 as const, 4 as const),
    });
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 12 }), (map) => {
        const covered = (entries: readonly MemoryMapEntry[], at: number): number =>
          Math.max(0, ...entries.filter((e) => e.addr <= at && at < e.addr + e.size).map((e) => e.type));
        const clean = sanitizeE820(map);
        for (let at = 0; at < 80; at++) expect(covered(clean, at)).toBe(covered(map, at));
        clean.forEach((e, i) => {
          const next = clean[i + 1];
          expect(e.size).toBeGreaterThan(0);
          if (!next) return;
          expect(next.addr).toBeGreaterThanOrEqual(e.addr + e.size);
          if (next.addr === e.addr + e.size) expect(next.type).not.toBe(e.type);
        });
      }),
    );
  });

  it('keeps off the ISA range where no BIOS has reserved it', () => {
    expect(pvhE820([ram(0, 64 * MIB)])).toEqual([ram(0, 0xa0000), reserved(0xa0000, MIB), ram(MIB, 64 * MIB)]);
  });

  it('PV: has room up to maxmem, but no more than ten times what it starts with', () => {
    expect(pvE820([ram(0, 512 * MIB)], 256 * 256).at(-1)).toEqual(ram(MIB, 512 * MIB));
    expect(pvE820([ram(0, 4096 * MIB)], 64 * 256).at(-1)).toEqual(ram(MIB, 704 * MIB));
  });

  it("PV with the host's map: its own RAM ends where the host's first reserved range begins, the rest lies above 4 GiB", () => {
    const host = [ram(0, 2048 * MIB), reserved(2048 * MIB, 2064 * MIB), ram(4096 * MIB, 5120 * MIB)];
    expect(pvE820(host, 3072 * 256)).toEqual([
      ram(0, 0xa0000),
      reserved(0xa0000, MIB),
      ram(MIB, 2048 * MIB),
      reserved(2048 * MIB, 2064 * MIB),
      ram(4096 * MIB, 5120 * MIB),
    ]);
  });
});
