// One lane per pCPU over the last seconds: running pale, holding in the lock's colour, waiting striped in red. A column of the screen is
// some milliseconds; within it the shares stand on one another.
import { LANE_COLUMN_BYTES, LANE_COLUMN_US, laneByte } from '#wire/live';
import type { LaneLook } from './host.svelte.ts';
import { css, FAULT, lockHue, mix, type Rgb, type Theme } from './palette.ts';
import { pattern } from './patterns.ts';

export const LANE_SECONDS = 15;

interface Sums {
  run: number;
  hold: number;
  wait: number;
  held: string;
  heldShare: number;
}

/** Shares of each pixel's time, by lane. */
export function drawLanes(
  c: CanvasRenderingContext2D,
  looks: readonly LaneLook[],
  width: number,
  laneHeight: number,
  gap: number,
  theme: Theme,
): void {
  const newest = looks.at(-1);
  const lanes = newest?.head.cpus.length ?? 0;
  c.clearRect(0, 0, width, lanes * (laneHeight + gap));
  if (!newest) return;
  const endUs = newest.head.fromUs + newest.head.columns * LANE_COLUMN_US;
  const startUs = endUs - LANE_SECONDS * 1e6;
  const perPixelUs = (LANE_SECONDS * 1e6) / width;
  for (let lane = 0; lane < lanes; lane++) {
    const y = lane * (laneHeight + gap);
    c.fillStyle = css(theme.page);
    c.fillRect(0, y, width, laneHeight);
    const pixels = pixelsOf(looks, lane, width, startUs, perPixelUs);
    for (let x = 0; x < width; x++) {
      const sums = pixels[x];
      if (sums) drawPixel(c, x, y, laneHeight, sums, theme);
    }
  }
}

function pixelsOf(
  looks: readonly LaneLook[],
  lane: number,
  width: number,
  startUs: number,
  perPixelUs: number,
): (Sums | undefined)[] {
  const pixels: (Sums | undefined)[] = new Array(width);
  const columnsPerPixel = perPixelUs / LANE_COLUMN_US;
  for (const { head, bytes } of looks) {
    for (let column = 0; column < head.columns; column++) {
      const x = Math.floor((head.fromUs + column * LANE_COLUMN_US - startUs) / perPixelUs);
      if (x < 0 || x >= width) continue;
      const at = (lane * head.columns + column) * LANE_COLUMN_BYTES;
      const share = (place: number): number => (bytes[at + place] ?? 0) / 255 / columnsPerPixel;
      let sums = pixels[x];
      if (!sums) {
        sums = { run: 0, hold: 0, wait: 0, held: '', heldShare: 0 };
        pixels[x] = sums;
      }
      const hold = share(laneByte.hold);
      sums.run += share(laneByte.run);
      sums.hold += hold;
      sums.wait += share(laneByte.wait);
      if (hold > sums.heldShare) {
        sums.heldShare = hold;
        sums.held = head.locks[(bytes[at + laneByte.heldLock] ?? 0) - 1] ?? '';
      }
    }
  }
  return pixels;
}

function drawPixel(c: CanvasRenderingContext2D, x: number, y: number, height: number, sums: Sums, theme: Theme): void {
  const running: Rgb = mix(theme.sunk, theme.faint, 0.55);
  let at = y + height;
  const stack = (share: number, style: string | CanvasPattern): void => {
    // What took a thousandth of the time is worth a pixel.
    const h = share <= 0 ? 0 : Math.max(share > 0.001 ? 1 : 0, Math.min(1, share) * height);
    c.fillStyle = style;
    at = Math.max(y, at - h);
    c.fillRect(x, at, 1, h);
  };
  stack(sums.run, css(running));
  stack(sums.hold, css(lockHue(sums.held)));
  stack(sums.wait, pattern(c, 'wait', FAULT, mix(theme.card, FAULT, 0.35)));
}
