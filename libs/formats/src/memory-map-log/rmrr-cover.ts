// How reserved ranges lie in a host's memory map, byte by byte: what each is covered by, and what by nothing. Owns the sums;
// reads no text.
import type { MapEntry } from './memory-map-log.ts';

type Range = Pick<MapEntry, 'start' | 'end' | 'type'>;

const FOUR_GIB = 2 ** 32;
const PAGE = 4096;
/** What no entry of the map covers. */
export const HOLE = '<hole>';

/** Bytes of [base, limit] by type of the entries they lie in. An empty range has none: its first and last byte are the same. */
export function coverOf(
  map: readonly Range[],
  base: number,
  limit: number,
): ReadonlyMap<string, number> | 'zero-length' {
  if (limit <= base) return 'zero-length';
  const cover = new Map<string, number>();
  let covered = 0;
  for (const { start, end, type } of map) {
    const bytes = Math.min(end, limit) - Math.max(start, base) + 1;
    if (bytes <= 0) continue;
    cover.set(type, (cover.get(type) ?? 0) + bytes);
    covered += bytes;
  }
  const rest = limit - base + 1 - covered;
  if (rest > 0) cover.set(HOLE, rest);
  return cover;
}

/** The entry an address lies in. */
export const entryAt = (map: readonly Range[], address: number): Range | undefined =>
  map.find(({ start, end }) => start <= address && address <= end);

export const overlapsOf = (map: readonly Range[]): [Range, Range][] => {
  const sorted = [...map].sort((a, b) => a.start - b.start);
  const overlaps: [Range, Range][] = [];
  for (const [index, entry] of sorted.entries()) {
    for (const next of sorted.slice(index + 1)) {
      if (next.start > entry.end) break;
      overlaps.push([entry, next]);
    }
  }
  return overlaps;
};

/** Entries that do not begin and end at a page boundary. */
export const unalignedCount = (map: readonly Range[]): number =>
  map.filter(({ start, end }) => start % PAGE !== 0 || (end + 1) % PAGE !== 0).length;

/** Bytes of usable RAM below and above 4 GiB. */
export function ramOf(map: readonly Range[]): { readonly below4g: number; readonly above4g: number } {
  let below4g = 0;
  let above4g = 0;
  for (const { start, end, type } of map) {
    if (type !== 'usable') continue;
    below4g += Math.max(0, Math.min(end + 1, FOUR_GIB) - start);
    above4g += Math.max(0, end + 1 - Math.max(start, FOUR_GIB));
  }
  return { below4g, above4g };
}
