// A guest's memory as a picture: what the p2m holds over what the IOMMU translates, on one scale, with the frames that
// faulted marked. Small ranges are widened so that they can be seen; the picture says so.
import { PAGE_SIZE } from '#model/frames/addresses';
import type { IommuSegment, MemorySegment, SegmentKind, TwinResult } from '../verdict.ts';
import { bytes, count, hex, html, type Markup } from './markup.ts';
import { faultsByDfn } from './tables.ts';

const WIDTH = 1130;
const LEFT = 62;
const BAR_WIDTH = WIDTH - LEFT - 16;
const MIN_SEGMENT = 26;
const MAX_SEGMENTS = 60;
const BUCKETS = 160;
const PINS_NAMED = 3;
const TICKS = 200;
/** Ranges closer than this many pixels are drawn as one, the paler the less of it is mapped. */
const MERGE_PIXELS = 0.3;

/** Kinds in the order in which a bucket of many small segments shows them: what explains a fault wins. */
const KINDS: readonly { readonly kind: SegmentKind; readonly name: string; readonly words: string }[] = [
  { kind: 'rmrr', name: 'RMRR', words: 'RMRR (identity mapped)' },
  { kind: 'mmio', name: 'MMIO', words: 'MMIO' },
  { kind: 'pod', name: 'PoD', words: 'PoD: no frame yet' },
  { kind: 'ram', name: 'RAM', words: 'RAM' },
  { kind: 'reserved', name: 'reserved', words: 'reserved' },
  { kind: 'hole', name: 'hole', words: 'hole: nothing mapped' },
];

const nameOf = (kind: SegmentKind): string => KINDS.find((k) => k.kind === kind)?.name ?? kind;

interface Placed extends MemorySegment {
  readonly x: number;
  readonly width: number;
}

/** Segments in address order, with the gaps between them as holes. */
function withHoles(segments: readonly MemorySegment[]): MemorySegment[] {
  const sorted = segments.filter((s) => s.endGfn > s.startGfn).sort((a, b) => a.startGfn - b.startGfn);
  const whole: MemorySegment[] = [];
  let next = sorted[0]?.startGfn ?? 0;
  for (const segment of sorted) {
    if (segment.startGfn > next) whole.push({ startGfn: next, endGfn: segment.startGfn, kind: 'hole', label: 'hole' });
    if (segment.endGfn <= next) continue; // inside the one before it
    whole.push({ ...segment, startGfn: Math.max(segment.startGfn, next) });
    next = segment.endGfn;
  }
  return whole;
}

/** Thousands of alternating segments cannot be drawn one by one: each bucket shows its most telling large kind. */
function bucketed(segments: readonly MemorySegment[]): MemorySegment[] {
  const first = segments[0]?.startGfn ?? 0;
  const step = ((segments.at(-1)?.endGfn ?? 0) - first) / BUCKETS;
  const merged: MemorySegment[] = [];
  for (let i = 0; i < BUCKETS; i++) {
    const startGfn = Math.round(first + i * step);
    const endGfn = Math.round(first + (i + 1) * step);
    const inside = segments.filter((s) => s.startGfn < endGfn && s.endGfn > startGfn);
    const share = (kind: SegmentKind): number =>
      inside.reduce(
        (n, s) => (s.kind === kind ? n + Math.min(s.endGfn, endGfn) - Math.max(s.startGfn, startGfn) : n),
        0,
      ) / Math.max(1, endGfn - startGfn);
    const special = KINDS.find(({ kind }) => (kind === 'rmrr' || kind === 'mmio') && share(kind) > 0)?.kind;
    const kind =
      special ?? KINDS.reduce((best, k) => (share(k.kind) > share(best) ? k.kind : best), 'hole' as SegmentKind);
    const last = merged.at(-1);
    if (last?.kind === kind) merged[merged.length - 1] = { ...last, endGfn };
    else merged.push({ startGfn, endGfn, kind, label: `mostly ${nameOf(kind)}` });
  }
  return merged;
}

/** Widths in proportion to size, but never below a minimum. */
function place(segments: readonly MemorySegment[]): Placed[] {
  const min = Math.min(MIN_SEGMENT, (0.6 * BAR_WIDTH) / segments.length);
  const total = segments.reduce((n, s) => n + s.endGfn - s.startGfn, 0);
  const spare = BAR_WIDTH - min * segments.length;
  let x = LEFT;
  return segments.map((segment) => {
    const width = min + (spare * (segment.endGfn - segment.startGfn)) / total;
    const placed = { ...segment, x, width };
    x += width;
    return placed;
  });
}

/** Where a frame lies in the picture; null outside of it. */
function position(placed: readonly Placed[], gfn: number): number | null {
  const at = placed.find((s) => gfn >= s.startGfn && gfn < s.endGfn);
  if (at !== undefined) return at.x + (at.width * (gfn - at.startGfn)) / (at.endGfn - at.startGfn);
  const last = placed.at(-1);
  return last !== undefined && gfn === last.endGfn ? last.x + last.width : null;
}

function segmentMarkup(segment: Placed, y: number, stripes: string): Markup {
  const size = bytes((segment.endGfn - segment.startGfn) * PAGE_SIZE);
  const fits = (text: string): boolean => text.length * 6.9 + 8 < segment.width;
  const name = fits(segment.label) ? segment.label : nameOf(segment.kind);
  const tone = segment.kind === 'hole' ? 'off' : segment.kind === 'pod' ? 'on dark' : 'on';
  const middle = (segment.x + segment.width / 2).toFixed(1);
  return html`<g><title>${segment.label}: gfn ${hex(segment.startGfn)} to ${hex(segment.endGfn - 1)} (${size})</title>
<rect class="${segment.kind} edge" x="${segment.x.toFixed(1)}" y="${y}" width="${segment.width.toFixed(1)}" height="46" rx="3"/>
${segment.kind === 'pod' && html`<rect x="${segment.x.toFixed(1)}" y="${y}" width="${segment.width.toFixed(1)}" height="46" rx="3" fill="url(#${stripes})"/>`}
${fits(name) && html`<text class="${tone}" x="${middle}" y="${y + 21}" text-anchor="middle">${name}</text>`}
${fits(size) && html`<text class="${tone}" x="${middle}" y="${y + 37}" text-anchor="middle" style="font-weight:400;font-size:11px">${size}</text>`}</g>`;
}

/** Addresses under the boundaries, in two rows, leaving out those that would overlap. */
function axis(placed: readonly Placed[], y: number): Markup[] {
  const lastX = [-Infinity, -Infinity];
  const edges = [
    ...placed.map((s) => ({ x: s.x, gfn: s.startGfn })),
    ...placed.slice(-1).map((s) => ({ x: s.x + s.width, gfn: s.endGfn })),
  ];
  return edges.flatMap(({ x, gfn }) => {
    const row = lastX.findIndex((last) => x - last >= 74);
    if (row < 0) return [];
    lastX[row] = x;
    const anchor = x > WIDTH - 50 ? 'end' : 'middle';
    return [
      html`<line class="frame" x1="${x.toFixed(1)}" x2="${x.toFixed(1)}" y1="${y - 12}" y2="${y - 8 + row * 14}"/><text class="axis" x="${x.toFixed(1)}" y="${y + 4 + row * 14}" text-anchor="${anchor}">${hex(gfn * PAGE_SIZE, 8)}</text>`,
    ];
  });
}

function iommuRow(placed: readonly Placed[], segments: readonly IommuSegment[], y: number): Markup {
  const first = placed[0]?.startGfn ?? 0;
  const end = placed.at(-1)?.endGfn ?? 0;
  const mapped: { from: number; to: number; start: number; end: number; frames: number }[] = [];
  for (const { startDfn, endDfn } of segments
    .filter((s) => s.mapped && s.endDfn > first && s.startDfn < end)
    .sort((a, b) => a.startDfn - b.startDfn)) {
    const from = position(placed, Math.max(startDfn, first)) ?? LEFT;
    const to = position(placed, Math.min(endDfn, end)) ?? from;
    const last = mapped.at(-1);
    if (last !== undefined && from - last.to < MERGE_PIXELS) {
      last.to = Math.max(last.to, to);
      last.end = Math.max(last.end, endDfn);
      last.frames += endDfn - startDfn;
    } else mapped.push({ from, to, start: startDfn, end: endDfn, frames: endDfn - startDfn });
  }
  return html`<text class="lane" x="0" y="${y + 17}">IOMMU</text>
<rect class="dashed" x="${LEFT}" y="${y}" width="${BAR_WIDTH.toFixed(1)}" height="26" rx="3"/>
${mapped.map(
  ({ from, to, start, end: last, frames }) =>
    html`<rect class="mapped" x="${from.toFixed(1)}" y="${y}" width="${(to - from).toFixed(2)}" height="26" opacity="${Math.min(1, frames / (last - start)).toFixed(2)}"><title>IOMMU translates ${count(frames)} of ${count(last - start)} dfns from ${hex(start)} to ${hex(last - 1)}</title></rect>`,
)}`;
}

/** Faulting frames: the most frequent with their address, the others as ticks. */
function pins(placed: readonly Placed[], twin: TwinResult, top: number, bottom: number): Markup[] {
  const marks = faultsByDfn(twin.faults).flatMap(({ dfn, times }) => {
    const x = position(placed, dfn);
    return x === null ? [] : [{ dfn, times, x }];
  });
  const named = marks.slice(0, PINS_NAMED).map(({ dfn, times, x }, i) => {
    const y = top + i * 15;
    const [anchor, dx] = x > WIDTH * 0.72 ? ['end', -8] : ['start', 8];
    return html`<line stroke="var(--bad)" stroke-width="1.6" x1="${x.toFixed(1)}" x2="${x.toFixed(1)}" y1="${y - 8}" y2="${bottom}"/>
<circle fill="var(--bad)" cx="${x.toFixed(1)}" cy="${y - 8}" r="4"/><text class="pin code" x="${(x + dx).toFixed(1)}" y="${y - 3}" text-anchor="${anchor}">fault addr ${hex(dfn * PAGE_SIZE)}${times > 1 && ` ×${count(times)}`}</text>`;
  });
  const ticks = marks
    .slice(PINS_NAMED, PINS_NAMED + TICKS)
    .map(
      ({ x }) =>
        html`<line stroke="var(--bad)" stroke-width="1" opacity=".7" x1="${x.toFixed(1)}" x2="${x.toFixed(1)}" y1="${bottom - 8}" y2="${bottom}"/>`,
    );
  return [...ticks, ...named];
}

/** The picture, or nothing when the run did not take one. `id` keeps its pattern apart from other pictures'. */
export function memoryBar(twin: TwinResult, id: string): Markup | false {
  const whole = withHoles(twin.memoryMap ?? []);
  if (whole.length === 0) return false;
  const placed = place(whole.length > MAX_SEGMENTS ? bucketed(whole) : whole);
  const pinRows = Math.min(PINS_NAMED, faultsByDfn(twin.faults).length);
  const p2mTop = 14 + pinRows * 15;
  const iommuTop = p2mTop + 54;
  const axisTop = twin.iommuMap === undefined ? p2mTop + 64 : iommuTop + 44;
  const kinds = KINDS.filter(({ kind }) => placed.some((s) => s.kind === kind));
  const stripes = `${id}-stripes`;
  return html`<div class="scroll"><svg viewBox="0 0 ${WIDTH} ${axisTop + 26}" role="img" aria-label="Guest memory map">
<defs><pattern id="${stripes}" width="9" height="9" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><line class="stripe" x1="0" y1="0" x2="0" y2="9"/></pattern></defs>
<text class="lane" x="0" y="${p2mTop + 28}">p2m</text>
${placed.map((segment) => segmentMarkup(segment, p2mTop, stripes))}
${twin.iommuMap !== undefined && iommuRow(placed, twin.iommuMap, iommuTop)}
${axis(placed, axisTop)}
${pins(placed, twin, 14, twin.iommuMap === undefined ? p2mTop + 46 : iommuTop + 26)}
</svg></div><div class="legend">${kinds.map(({ kind, words }) => html`<span><i class="${kind}"></i>${words}</span>`)}
${twin.iommuMap !== undefined && html`<span><i class="mapped"></i>IOMMU has a translation</span><span><i class="absent"></i>IOMMU has none</span>`}
<span class="faint">not to scale: small ranges are widened</span></div>`;
}
