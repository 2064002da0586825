// The memory map a Linux kernel prints and lives by, from what it was given: ordered, without overlaps, with the ranges that a
// kernel started without a BIOS puts in itself. Owns those rules; who gave the map, and what becomes of its RAM, is elsewhere.
import type { MemoryMapEntry } from '../hypercall/calls.ts';

const E820_RAM = 1;
const E820_RESERVED = 2;
const ISA_START = 0xa0000;
const ISA_END = 0x100000;
const PAGE = 4096;
/** A PV kernel takes at most so many times its RAM as room to grow into. */
const EXTRA_MEM_RATIO = 10;

const endOf = ({ addr, size }: MemoryMapEntry): number => addr + size;

/** Ascending and disjoint: where entries overlap the one with the highest type number wins; neighbours of a type are joined. */
export function sanitizeE820(map: readonly MemoryMapEntry[]): readonly MemoryMapEntry[] {
  const bounds = [...new Set(map.flatMap((entry) => [entry.addr, endOf(entry)]))].sort((a, b) => a - b);
  const result: MemoryMapEntry[] = [];
  for (const [i, addr] of bounds.entries()) {
    const end = bounds[i + 1];
    if (end === undefined) break;
    const covering = map.filter((entry) => entry.addr <= addr && endOf(entry) >= end);
    const top = covering.reduce<MemoryMapEntry | null>((a, b) => (a && a.type >= b.type ? a : b), null);
    if (!top) continue;
    const last = result.at(-1);
    if (last && last.type === top.type && endOf(last) === addr) {
      result[result.length - 1] = { ...last, size: end - last.addr };
    } else result.push({ addr, size: end - addr, type: top.type });
  }
  return result;
}

const isa: MemoryMapEntry = { addr: ISA_START, size: ISA_END - ISA_START, type: E820_RESERVED };

/** A PVH kernel keeps off the ISA range, although its memory map has RAM there: too much code looks into it. */
export const pvhE820 = (map: readonly MemoryMapEntry[]): readonly MemoryMapEntry[] => sanitizeE820([...map, isa]);

/**
 * A PV kernel that was started with `pages` pages. RAM of the map up to that size is its own; RAM beyond is room for memory that
 * a balloon may bring, as far as it will keep track of it; the ISA range is kept off as in PVH.
 */
export function pvE820(map: readonly MemoryMapEntry[], pages: number): readonly MemoryMapEntry[] {
  const own = pages * PAGE;
  let extra = EXTRA_MEM_RATIO * own;
  const kept: MemoryMapEntry[] = [];
  for (const entry of sanitizeE820(map)) {
    if (entry.type !== E820_RAM) {
      kept.push(entry);
      continue;
    }
    const ownEnd = Math.max(entry.addr, Math.min(endOf(entry), own));
    const more = Math.min(endOf(entry) - ownEnd, extra);
    extra -= more;
    if (ownEnd + more > entry.addr) kept.push({ ...entry, size: ownEnd + more - entry.addr });
  }
  return sanitizeE820([...kept, isa]);
}
