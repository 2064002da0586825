// A host's memory map and RMRRs as `hostloom inspect e820` shows them: one object with hexadecimal texts, and one table that a
// person reads. Owns these two forms; what is read and summed up comes from memory-map-log.ts and rmrr-cover.ts.
import type { LoggedRmrr, MapEntry, MemoryMapLog } from './memory-map-log.ts';
import { coverOf, HOLE, overlapsOf, ramOf, unalignedCount } from './rmrr-cover.ts';

/** An RMRR of the same machine's DMAR table. */
export interface TableRmrr {
  readonly base: number;
  readonly limit: number;
  readonly deviceCount: number;
}

const hex = (value: number): string => `0x${value.toString(16)}`;

const entryObject = ({ start, end, type }: Pick<MapEntry, 'start' | 'end' | 'type'>) => ({
  start: hex(start),
  end: hex(end),
  type,
});

function coverObject(map: readonly MapEntry[], base: number, limit: number) {
  if (map.length === 0) return null;
  const cover = coverOf(map, base, limit);
  return cover === 'zero-length' ? cover : Object.fromEntries([...cover].map(([type, bytes]) => [type, hex(bytes)]));
}

/** `fromDmar`: RMRRs of the machine's DMAR table, when that is given beside the log. */
export function memoryMapObject({ map, rmrrs }: MemoryMapLog, fromDmar?: readonly TableRmrr[]) {
  const ram = ramOf(map);
  const bounds = ({ base, limit }: { base: number; limit: number }) => ({ base: hex(base), limit: hex(limit) });
  return {
    e820: map.map(entryObject),
    e820_overlaps: overlapsOf(map).map((pair) => pair.map(entryObject)),
    unaligned: unalignedCount(map),
    rmrr: rmrrs.map((rmrr) => ({ ...bounds(rmrr), cover: coverObject(map, rmrr.base, rmrr.limit) })),
    ram_below_4g: hex(ram.below4g),
    ram_above_4g: hex(ram.above4g),
    ...(fromDmar && {
      rmrr_from_dmar: fromDmar.map((rmrr) => ({
        ...bounds(rmrr),
        n_devices: rmrr.deviceCount,
        cover: coverObject(map, rmrr.base, rmrr.limit),
      })),
    }),
  };
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** The largest unit that leaves at least one; one decimal where it is not whole. */
export function sizeText(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

const address = (value: number): string => value.toString(16).padStart(12, '0');

function coverText(map: readonly MapEntry[], base: number, limit: number): string {
  if (map.length === 0) return 'no map in this log to compare with';
  const cover = coverOf(map, base, limit);
  if (cover === 'zero-length') return 'empty: firmware left it unfilled, or its limit is wrong';
  const parts = [...cover].map(([type, bytes]) =>
    type === HOLE ? `hole ${sizeText(bytes)}` : `${type} ${sizeText(bytes)}`,
  );
  const ok = cover.size === 1 && cover.has('reserved');
  return `${parts.join(', ')}${ok ? '' : '   ← not entirely reserved'}`;
}

const rmrrLine = (
  map: readonly MapEntry[],
  { base, limit }: { base: number; limit: number },
  devices: string,
): string => `  ${address(base)} - ${address(limit)}  ${coverText(map, base, limit)}${devices}`;

const scopeText = ({ devices }: LoggedRmrr): string => (devices.length === 0 ? '' : `   (${devices.join(', ')})`);

function mapLines(map: readonly MapEntry[]): string[] {
  const lines: string[] = [];
  let next = 0;
  for (const { start, end, type } of map) {
    if (start > next)
      lines.push(`  ${address(next)} - ${address(start - 1)}  ${sizeText(start - next).padStart(10)}  (hole)`);
    lines.push(`  ${address(start)} - ${address(end)}  ${sizeText(end + 1 - start).padStart(10)}  ${type}`);
    next = Math.max(next, end + 1);
  }
  return lines;
}

export function memoryMapText(log: MemoryMapLog, fromDmar?: readonly TableRmrr[]): string {
  const { map, rmrrs } = log;
  const ram = ramOf(map);
  const lines = [
    `Memory map: ${map.length} entries, ends inclusive; RAM ${sizeText(ram.below4g)} below 4 GiB, ${sizeText(ram.above4g)} above`,
    ...mapLines(map),
    `RMRRs in this log: ${rmrrs.length}`,
    ...rmrrs.map((rmrr) => rmrrLine(map, rmrr, scopeText(rmrr))),
  ];
  if (fromDmar !== undefined) {
    lines.push(`RMRRs in the DMAR table: ${fromDmar.length}`);
    for (const rmrr of fromDmar) lines.push(rmrrLine(map, rmrr, `   (${rmrr.deviceCount} devices)`));
  }
  for (const [a, b] of overlapsOf(map))
    lines.push(`Overlap: ${a.type} ${address(a.start)} and ${b.type} ${address(b.start)}`);
  const unaligned = unalignedCount(map);
  if (unaligned > 0) lines.push(`${unaligned} entries do not begin and end at a page boundary: those pages are shared`);
  return lines.join('\n');
}
