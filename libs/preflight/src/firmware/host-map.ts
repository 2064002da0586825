// The host's memory map from a boot log, cleaned: sorted, without overlaps, each stretch of one type; or an assumed one where no
// log is given. Owns which type wins where two entries lie over each other (the more cautious one, as Xen and Linux sanitise).
import type { HostRegion, RegionType } from '#formats/host-file';
import type { MapEntry } from '#formats/memory-map-log/memory-map-log';
import { type ByteRange, FOUR_GIB, GIB, MIB } from '../ranges.ts';

/** Later wins. */
const PRECEDENCE: readonly RegionType[] = ['usable', 'acpi', 'nvs', 'reserved', 'unusable'];
/** Xen's own table has room for fewer. */
const MAX_ENTRIES = 1024;
const MAX_ADDRESS = 2 ** 52 - 1;

/** Whatever is no RAM and no ACPI memory is left alone: reserved. */
export function regionType(printed: string): RegionType {
  const text = printed.toLowerCase();
  if (text === 'usable' || text === 'ram') return 'usable';
  if (text.includes('nvs')) return 'nvs';
  if (text.includes('acpi')) return 'acpi';
  return text.startsWith('unusable') ? 'unusable' : 'reserved';
}

/** Entries of any order and overlap as a map. */
export function cleanMap(entries: readonly HostRegion[]): HostRegion[] {
  const usable = entries
    .filter(({ start, end }) => start <= end && start <= MAX_ADDRESS)
    .slice(0, MAX_ENTRIES)
    .map((entry) => ({ ...entry, end: Math.min(entry.end, MAX_ADDRESS) }));
  const cuts = [...new Set(usable.flatMap(({ start, end }) => [start, end + 1]))].sort((a, b) => a - b);
  const out: { start: number; end: number; type: RegionType }[] = [];
  for (const [i, start] of cuts.entries()) {
    const next = cuts[i + 1];
    if (next === undefined) break;
    const here = usable.filter((entry) => entry.start <= start && start <= entry.end);
    if (here.length === 0) continue;
    const type = here.reduce<RegionType>((a, b) => (stronger(b.type, a) ? b.type : a), 'usable');
    const last = out.at(-1);
    if (last && last.type === type && last.end + 1 === start) last.end = next - 1;
    else out.push({ start, end: next - 1, type });
  }
  return out;
}

const stronger = (a: RegionType, b: RegionType): boolean => PRECEDENCE.indexOf(a) > PRECEDENCE.indexOf(b);

export const mapOfLog = (entries: readonly MapEntry[]): HostRegion[] =>
  cleanMap(entries.map(({ start, end, type }) => ({ start, end, type: regionType(type) })));

/** `map` with `range` reserved, whatever was there. */
export function reserve(map: readonly HostRegion[], range: ByteRange): HostRegion[] {
  const cut = map.flatMap((region): HostRegion[] => {
    if (region.end < range.start || region.start > range.end) return [region];
    const before = { ...region, end: range.start - 1 };
    const after = { ...region, start: range.end + 1 };
    return [before, after].filter(({ start, end }) => start <= end);
  });
  return cleanMap([...cut, { ...range, type: 'reserved' }]);
}

const ASSUMED_LOW_END = 0xc0000000;
const ASSUMED_HIGH_BYTES = 13 * GIB;

/** 16 GiB with the usual hole; RAM below 4 GiB ends where the lowest range of firmware's begins. */
export function assumedMap(ranges: readonly ByteRange[]): HostRegion[] {
  const lowEnd = ranges.reduce((end, { start }) => (start > 16 * MIB ? Math.min(end, start) : end), ASSUMED_LOW_END);
  const whole = lowEnd - (lowEnd % MIB);
  return [
    { start: 0, end: 0x9ffff, type: 'usable' },
    { start: 0xa0000, end: MIB - 1, type: 'reserved' },
    { start: MIB, end: whole - 1, type: 'usable' },
    { start: FOUR_GIB, end: FOUR_GIB + ASSUMED_HIGH_BYTES + (ASSUMED_LOW_END - whole) - 1, type: 'usable' },
  ];
}

export const ramBytes = (map: readonly HostRegion[]): number =>
  map.reduce((sum, { start, end, type }) => (type === 'usable' ? sum + end + 1 - start : sum), 0);
