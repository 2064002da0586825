// How a reserved range lies in the host's memory map, piece by piece and not just at its ends, and what Xen makes of it. Works
// on edges, never on pages: a damaged table may tell of 2^52 of them.

export interface HostMapRegion {
  /** Bytes; `end` is the last byte. */
  readonly start: number;
  readonly end: number;
  /** As the log or the host file names it: usable, reserved, ACPI data… */
  readonly type: string;
}

export interface RangePiece extends HostMapRegion {
  /** The map's type, or what lies between and above its entries: `hole`, `beyond RAM`. */
  readonly type: string;
}

export type Placement = 'reserved' | 'not entirely reserved' | 'in RAM';

const isRam = (type: string): boolean => /^(usable|ram|system ram)$/i.test(type.trim());

/** Whole of [start, end] in ascending order; neighbours differ in type. */
export function piecesOf(start: number, end: number, map: readonly HostMapRegion[]): RangePiece[] {
  const topOfRam = map.reduce((top, region) => (isRam(region.type) ? Math.max(top, region.end) : top), -1);
  const cuts = new Set([start]);
  for (const edge of [topOfRam + 1, ...map.flatMap((region) => [region.start, region.end + 1])]) {
    if (edge > start && edge <= end) cuts.add(edge);
  }
  const edges = [...cuts].sort((a, b) => a - b);
  const pieces: { start: number; end: number; type: string }[] = [];
  for (const [index, from] of edges.entries()) {
    const to = (edges[index + 1] ?? end + 1) - 1;
    const type = map.find((region) => region.start <= from && from <= region.end)?.type;
    const name = type ?? (from > topOfRam ? 'beyond RAM' : 'hole');
    const last = pieces.at(-1);
    if (last?.type === name) last.end = to;
    else pieces.push({ start: from, end: to, type: name });
  }
  return pieces;
}

/**
 * As Xen's iommu_unity_region_ok: entirely reserved is fine; what is RAM cannot be made reserved (-EIO); all else is converted
 * with a warning.
 */
export function placementOf(pieces: readonly RangePiece[]): Placement {
  if (pieces.some(({ type }) => isRam(type))) return 'in RAM';
  return pieces.every(({ type }) => /^reserved$/i.test(type.trim())) ? 'reserved' : 'not entirely reserved';
}

export const pieceText = ({ start, end, type }: RangePiece): string =>
  `${start.toString(16)}-${end.toString(16)} ${type}`;
