// Patterns of states, as tiles for a canvas: the same everywhere. Hatched: populated on demand, no frame behind. Cross-hatched grey:
// device memory and reserved regions. Dotted: somebody else's frame.
import { css, mix, type Rgb, type Theme } from './palette.ts';

type Kind = 'hatch' | 'cross' | 'dots' | 'wait';
const tiles = new Map<string, CanvasPattern>();

function tile(kind: Kind, ink: Rgb, ground: Rgb | null): HTMLCanvasElement {
  const canvas = document.createElement('canvas');
  canvas.width = 6;
  canvas.height = 6;
  const c = canvas.getContext('2d');
  if (!c) return canvas;
  if (ground) {
    c.fillStyle = css(ground);
    c.fillRect(0, 0, 6, 6);
  }
  c.strokeStyle = css(ink);
  c.fillStyle = css(ink);
  c.lineWidth = kind === 'hatch' ? 1.6 : 1;
  if (kind === 'dots') {
    c.fillRect(1, 1, 2, 2);
    c.fillRect(4, 4, 2, 2);
    return canvas;
  }
  c.beginPath();
  const falling = kind === 'cross';
  for (const x of [-6, 0, 6]) {
    c.moveTo(x, 6);
    c.lineTo(x + 6, 0);
    if (falling) {
      c.moveTo(x, 0);
      c.lineTo(x + 6, 6);
    }
  }
  c.stroke();
  return canvas;
}

export function pattern(
  context: CanvasRenderingContext2D,
  kind: Kind,
  ink: Rgb,
  ground: Rgb | null,
): CanvasPattern | string {
  const key = `${kind} ${ink.join()} ${ground?.join() ?? ''}`;
  let known = tiles.get(key);
  if (!known) {
    const made = context.createPattern(tile(kind, ink, ground), 'repeat');
    if (!made) return css(ink);
    known = made;
    tiles.set(key, known);
  }
  return known;
}

export const podPattern = (c: CanvasRenderingContext2D, hue: Rgb, theme: Theme): CanvasPattern | string =>
  pattern(c, 'hatch', hue, mix(theme.card, hue, 0.12));
export const mmioPattern = (c: CanvasRenderingContext2D, theme: Theme): CanvasPattern | string =>
  pattern(c, 'cross', theme.faint, theme.sunk);
export const foreignPattern = (c: CanvasRenderingContext2D, hue: Rgb, theme: Theme): CanvasPattern | string =>
  pattern(c, 'dots', hue, mix(theme.card, hue, 0.3));
