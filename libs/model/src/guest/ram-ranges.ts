// Which frames a kernel takes for RAM, from its E820. Knows no page states and asks nobody.
import type { MemoryMapEntry } from '../hypercall/calls.ts';

const PAGE = 4096;
const E820_RAM = 1;

/** Frames [start, end). */
export interface RamRange {
  readonly start: number;
  readonly end: number;
}

function subtract(ranges: readonly RamRange[], start: number, end: number): RamRange[] {
  const rest: RamRange[] = [];
  for (const r of ranges) {
    if (end <= r.start || start >= r.end) {
      rest.push(r);
      continue;
    }
    if (r.start < start) rest.push({ start: r.start, end: start });
    if (end < r.end) rest.push({ start: end, end: r.end });
  }
  return rest;
}

/** Whole frames of RAM, ascending; where entries overlap, anything that is not RAM wins (as Linux sanitises its table). */
export function ramRanges(map: readonly MemoryMapEntry[]): readonly RamRange[] {
  let ranges: RamRange[] = [];
  for (const entry of map) {
    if (entry.type !== E820_RAM) continue;
    const start = Math.ceil(entry.addr / PAGE);
    const end = Math.floor((entry.addr + entry.size) / PAGE);
    if (end <= start) continue;
    ranges = subtract(ranges, start, end); // an overlap of two RAM entries counts once
    ranges.push({ start, end });
  }
  for (const entry of map) {
    if (entry.type === E820_RAM || entry.size === 0) continue;
    ranges = subtract(ranges, Math.floor(entry.addr / PAGE), Math.ceil((entry.addr + entry.size) / PAGE));
  }
  return ranges.sort((a, b) => a.start - b.start);
}

/** Frames of which the map says that they are anything but RAM, ascending. */
export const takenRanges = (map: readonly MemoryMapEntry[]): readonly RamRange[] =>
  map
    .filter(({ type, size }) => type !== E820_RAM && size > 0)
    .map(({ addr, size }) => ({ start: Math.floor(addr / PAGE), end: Math.ceil((addr + size) / PAGE) }))
    .sort((a, b) => a.start - b.start);

export const pagesIn = (ranges: readonly RamRange[]): number =>
  ranges.reduce((sum, range) => sum + range.end - range.start, 0);

/** The `index`-th page of RAM. */
export function pageAt(ranges: readonly RamRange[], index: number): number {
  let left = index;
  for (const { start, end } of ranges) {
    if (left < end - start) return start + left;
    left -= end - start;
  }
  return -1;
}
