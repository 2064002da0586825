// The two strips over one axis of gfns: what the p2m holds stands on the axis, what the devices' tables hold hangs from it, and
// between them a tick where they disagree. The height of a column is the size of its leaves, so that shattering is seen.
import { STRIP_COLUMN_BYTES, STRIP_COLUMNS, stripByte } from '#wire/live';
import { css, FAULT, hueOf, mix, type Rgb, type Theme, WARN } from './palette.ts';
import { foreignPattern, mmioPattern, podPattern } from './patterns.ts';

/** Numbers of p2m types. */
const MMIO: ReadonlySet<number> = new Set([4, 5]);
const POD = 6;
const FOREIGN: ReadonlySet<number> = new Set([7, 8, 14, 16, 17]);

export interface StripBox {
  readonly width: number;
  /** Height of one strip. */
  readonly strip: number;
  /** Between the two. */
  readonly gap: number;
}

const SLIVER = 0.46;
/** Between the height of the column's largest leaves and that of 4K ones, by their shares. */
function heightOf(order: number, slivers: number, full: number): number {
  const whole = order >= 18 ? 1 : order >= 9 ? 0.82 : SLIVER;
  return full * (whole + (SLIVER - whole) * (slivers / 255));
}

export function drawStrips(
  c: CanvasRenderingContext2D,
  bytes: Uint8Array,
  { width, strip, gap }: StripBox,
  domid: number,
  shared: boolean,
  theme: Theme,
  pagesPerColumn: number,
): void {
  const hue = hueOf(domid);
  c.clearRect(0, 0, width, strip * 2 + gap);
  const columnWidth = width / STRIP_COLUMNS;
  c.fillStyle = css(theme.sunk);
  c.fillRect(0, strip, width, 1);
  if (!shared) c.fillRect(0, strip + gap - 1, width, 1);
  for (let column = 0; column < STRIP_COLUMNS; column++) {
    const at = column * STRIP_COLUMN_BYTES;
    const byte = (place: number): number => bytes[at + place] as number; // a whole column
    const x = column * columnWidth;
    const w = columnWidth + 0.4;
    const type = byte(stripByte.p2mType) - 1;
    if (type >= 0) {
      const h = heightOf(byte(stripByte.p2mOrder), byte(stripByte.p2mSlivers), strip);
      c.globalAlpha = 0.35 + 0.65 * (byte(stripByte.p2mFill) / 255);
      c.fillStyle = styleOf(c, type, hue, theme);
      c.fillRect(x, strip - h, w, h);
      c.globalAlpha = 1;
    }
    if (!shared && byte(stripByte.ioRights) > 0) {
      const h = heightOf(byte(stripByte.ioOrder), byte(stripByte.ioSlivers), strip);
      c.globalAlpha = 0.35 + 0.65 * (byte(stripByte.ioFill) / 255);
      c.fillStyle = css(byte(stripByte.ioRights) === 3 ? mix(hue, theme.ink, 0.18) : mix(hue, theme.card, 0.5));
      c.fillRect(x, strip + gap, w, h);
      c.globalAlpha = 1;
    }
  }
  drawLeaves(c, bytes, { width, strip, gap }, shared, theme, pagesPerColumn);
  drawTicks(c, bytes, { width, strip, gap }, columnWidth);
}

function styleOf(c: CanvasRenderingContext2D, type: number, hue: Rgb, theme: Theme): string | CanvasPattern {
  if (type === POD) return podPattern(c, hue, theme);
  if (MMIO.has(type)) return mmioPattern(c, theme);
  if (FOREIGN.has(type)) return foreignPattern(c, hue, theme);
  return css(hue);
}

/** Edges of leaves, where there is room for them; 4K leaves without room are fine stripes. */
function drawLeaves(
  c: CanvasRenderingContext2D,
  bytes: Uint8Array,
  { width, strip, gap }: StripBox,
  shared: boolean,
  theme: Theme,
  pagesPerColumn: number,
): void {
  const pixelsPerPage = width / (STRIP_COLUMNS * pagesPerColumn);
  c.fillStyle = css(theme.card, 0.55);
  for (const [place, fillPlace, sliverPlace, up] of [
    [stripByte.p2mOrder, stripByte.p2mFill, stripByte.p2mSlivers, true],
    [stripByte.ioOrder, stripByte.ioFill, stripByte.ioSlivers, false],
  ] as const) {
    if (!up && shared) continue;
    for (let x = 0; x < width; x++) {
      const column = Math.min(STRIP_COLUMNS - 1, Math.floor((x / width) * STRIP_COLUMNS));
      const at = column * STRIP_COLUMN_BYTES;
      if ((bytes[at + fillPlace] as number) === 0) continue;
      const slivers = bytes[at + sliverPlace] as number;
      const order = slivers > 127 ? 0 : (bytes[at + place] as number);
      const leaf = pixelsPerPage * 2 ** order;
      const every = Math.max(order === 0 ? 2 : 5, leaf);
      if (Math.floor(x / every) === Math.floor((x - 1) / every)) continue;
      const h = heightOf(bytes[at + place] as number, slivers, strip);
      c.fillRect(x, up ? strip - h : strip + gap, 1, h);
    }
  }
}

function drawTicks(
  c: CanvasRenderingContext2D,
  bytes: Uint8Array,
  { strip, gap }: StripBox,
  columnWidth: number,
): void {
  for (let column = 0; column < STRIP_COLUMNS; column++) {
    const at = column * STRIP_COLUMN_BYTES;
    const x = column * columnWidth;
    const wrong = (bytes[at + stripByte.disagree] as number) > 0;
    const bare = (bytes[at + stripByte.frameless] as number) > 0;
    if (!wrong && !bare) continue;
    c.fillStyle = css(wrong ? FAULT : WARN, wrong ? 1 : 0.75);
    // A disagreement of one page must be seen too.
    const w = wrong ? Math.max(2, columnWidth) : columnWidth + 0.3;
    c.fillRect(x, strip + (wrong ? 1 : gap / 2 - 1.5), w, wrong ? gap - 2 : 3);
  }
}
