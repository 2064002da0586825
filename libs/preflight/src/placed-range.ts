// How a reserved range lies in the host's memory, page by page and not only at its two ends. Works on edges: a damaged table may
// tell of more pages than can be counted.
import { piecesOf, type RangePiece } from '#formats/acpi/host-regions';
import type { Machine, ReservedRange } from './machine.ts';
import { bytesOf, counted, PAGE, rangeText, wholePages } from './ranges.ts';

const TYPE_WORDS: Readonly<Record<string, string>> = { usable: 'RAM', acpi: 'ACPI data', nvs: 'ACPI NVS' };

/** A run of pages of one kind: `RAM`, `reserved`, `hole`, `beyond RAM`, … */
export interface PageRun {
  readonly start: number;
  readonly end: number;
  readonly pages: number;
  readonly kind: string;
}

/** The whole pages that the range touches; empty for a range that ends before it begins, or where the map is not known. */
export function pageRuns(machine: Machine, range: ReservedRange): PageRun[] {
  if (!machine.mapKnown || range.start > range.end) return [];
  const { start, end } = wholePages(range);
  return byPage(piecesOf(start, end, machine.firmwareMap)).map(({ start: from, end: to, type }) => ({
    start: from,
    end: to,
    pages: Math.round(bytesOf({ start: from, end: to }) / PAGE),
    kind: TYPE_WORDS[type] ?? type,
  }));
}

/** A page in which an edge of the map lies belongs to what is not RAM: Xen gives no part of it to anybody. */
function byPage(pieces: readonly RangePiece[]): RangePiece[] {
  const runs: { start: number; end: number; type: string }[] = [];
  for (const piece of pieces) {
    const last = runs.at(-1);
    const start = last ? last.end + 1 : piece.start;
    const inPage = piece.end % PAGE !== PAGE - 1;
    const strong = piece.type !== 'usable' && piece.type !== 'hole' && piece.type !== 'beyond RAM';
    const down = piece.end - (piece.end % PAGE) - 1;
    const end = inPage ? (strong ? down + PAGE : down) : piece.end;
    if (end < start) continue;
    if (last?.type === piece.type) last.end = end;
    else runs.push({ start, end, type: piece.type });
  }
  return runs;
}

export const runText = ({ start, end, pages, kind }: PageRun): string =>
  `${rangeText({ start, end })} ${kind} (${counted(pages, 'page')})`;

export const rangeName = (range: ReservedRange): string => `${range.kind} ${rangeText(range)}`;
