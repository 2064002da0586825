// A line chart as one SVG that needs no style sheet, so that the same text stands in a report and as a file of its own. Both axes are
// logarithmic: figures of experiments lie decades apart.
import { count, html, type Markup } from './markup.ts';

export interface Series {
  readonly name: string;
  /** Both above zero; others are left out. */
  readonly points: readonly { readonly x: number; readonly y: number; readonly label?: string }[];
}

export interface LineChart {
  readonly title: string;
  readonly xAxis: string;
  readonly yAxis: string;
  readonly series: readonly Series[];
  /** A horizontal line. */
  readonly bound?: { readonly y: number; readonly name: string };
  /** Names of x values, where the number says too little. */
  readonly xNames?: Readonly<Record<number, string>>;
}

const WIDTH = 860;
const HEIGHT = 380;
const LEFT = 78;
const RIGHT = 190;
const TOP = 42;
const BOTTOM = 52;
/** Legible on light and dark grounds. */
const COLOURS = ['#4a6fd0', '#c8553d', '#2e9a75', '#a46bc9', '#c98f24', '#6f7d95'] as const;
const INK = '#7b8598';

const colour = (i: number): string => COLOURS[i % COLOURS.length] as string;
const figure = (n: number): string => (n >= 1000 || Number.isInteger(n) ? count(n) : `${Number(n.toPrecision(2))}`);

interface Scale {
  readonly at: (value: number) => number;
  /** Powers of ten in it. */
  readonly ticks: readonly number[];
}

function scale(values: readonly number[], from: number, to: number): Scale {
  const low = Math.floor(Math.log10(Math.min(...values)) + 1e-9);
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...values)) - 1e-9));
  return {
    at: (value) => from + ((Math.log10(value) - low) / (high - low)) * (to - from),
    ticks: Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i)),
  };
}

/** Null where there is nothing to draw. */
export function lineChart({ title, xAxis, yAxis, series, bound, xNames }: LineChart): Markup | null {
  const shown = series.map((s) => ({ ...s, points: s.points.filter(({ x, y }) => x > 0 && y > 0) }));
  const points = shown.flatMap((s) => s.points);
  if (points.length === 0) return null;
  const xs = [...new Set(points.map(({ x }) => x))].sort((a, b) => a - b);
  const x = scale(xs, LEFT, WIDTH - RIGHT);
  const y = scale([...points.map((p) => p.y), ...(bound ? [bound.y] : [])], HEIGHT - BOTTOM, TOP);
  const px = (n: number): string => n.toFixed(1);
  const grid = y.ticks.map(
    (
      t,
    ) => html`<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${px(y.at(t))}" y2="${px(y.at(t))}" stroke="${INK}" stroke-opacity=".25"/>
<text x="${LEFT - 8}" y="${px(y.at(t) + 4)}" text-anchor="end" style="fill:${INK};font-size:11px">${figure(t)}</text>`,
  );
  const marks = xs.map(
    (v) =>
      html`<text x="${px(x.at(v))}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle" style="fill:${INK};font-size:11px">${xNames?.[v] ?? figure(v)}</text>`,
  );
  const lines = shown.map(({ name, points: own }, i) => {
    const sorted = own.toSorted((a, b) => a.x - b.x);
    const path = sorted.map((p, n) => `${n === 0 ? 'M' : 'L'}${px(x.at(p.x))} ${px(y.at(p.y))}`).join('');
    const top = TOP + 14 + i * 20;
    return html`<path d="${path}" fill="none" stroke="${colour(i)}" stroke-width="2"/>
${sorted.map((p) => html`<circle cx="${px(x.at(p.x))}" cy="${px(y.at(p.y))}" r="3.5" fill="${colour(i)}"><title>${name}: ${p.label ?? `${figure(p.x)}, ${figure(p.y)}`}</title></circle>`)}
<line x1="${WIDTH - RIGHT + 18}" x2="${WIDTH - RIGHT + 40}" y1="${top - 4}" y2="${top - 4}" stroke="${colour(i)}" stroke-width="2"/><text x="${WIDTH - RIGHT + 46}" y="${top}" style="fill:${INK};font-size:12px">${name}</text>`;
  });
  const limit =
    bound &&
    html`<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${px(y.at(bound.y))}" y2="${px(y.at(bound.y))}" stroke="#bf2338" stroke-dasharray="6 4"/>
<text x="${WIDTH - RIGHT + 6}" y="${px(y.at(bound.y) + 4)}" style="fill:#bf2338;font-size:11px">${bound.name}</text>`;
  return html`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${title}" font-family="system-ui, 'DejaVu Sans', sans-serif">
<title>${title}</title><text x="${LEFT}" y="20" style="fill:${INK};font-size:13px;font-weight:600">${title}</text>
${grid}${marks}${limit}${lines}
<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 10}" text-anchor="middle" style="fill:${INK};font-size:12px">${xAxis}</text>
<text transform="translate(16 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle" style="fill:${INK};font-size:12px">${yAxis}</text></svg>`;
}
