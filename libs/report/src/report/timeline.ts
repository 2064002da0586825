// What happened, in order: a lane per actor above, the same events in words below, under the same numbers. Distances
// between events are compressed; their order and their times are true. A long run shows its beginning, its end and the
// first bad events.
import type { TimelineEvent } from '../verdict.ts';
import { count, duration, html, instant, type Markup, plural, prose } from './markup.ts';

const WIDTH = 1130;
const LEFT = 150;
const LANE = 36;
const FIRST_SHOWN = 22;
const LAST_SHOWN = 8;
const BAD_SHOWN = 6;
const MAX_LANES = 12;
const MIN_GAP = 22;
const OTHERS = 'others';

interface Numbered extends TimelineEvent {
  /** Position in the whole timeline, from 0. */
  readonly index: number;
}

/** Events in order of time, at most FIRST + BAD + LAST of them. */
export function selectEvents(timeline: readonly TimelineEvent[]): Numbered[] {
  const sorted = timeline
    .map((event, at) => ({ event, at }))
    .sort((a, b) => a.event.tsUs - b.event.tsUs || a.at - b.at);
  const numbered = sorted.map(({ event }, index) => ({ ...event, index }));
  if (numbered.length <= FIRST_SHOWN + LAST_SHOWN + BAD_SHOWN) return numbered;
  const middle = numbered.slice(FIRST_SHOWN, -LAST_SHOWN).filter(({ tone }) => tone === 'bad');
  return [...numbered.slice(0, FIRST_SHOWN), ...middle.slice(0, BAD_SHOWN), ...numbered.slice(-LAST_SHOWN)];
}

/** Lanes in order of appearance; actors beyond the last lane share it. */
function laneNames(events: readonly TimelineEvent[]): string[] {
  const names = [...new Set(events.map(({ who }) => who))];
  return names.length <= MAX_LANES ? names : [...names.slice(0, MAX_LANES - 1), OTHERS];
}

/** Horizontal places: a fixed least distance, and the rest shared by the logarithm of the time between. */
function places(events: readonly Numbered[]): number[] {
  const weights = events.map((event, i) => Math.log10(1 + event.tsUs - (events[i - 1]?.tsUs ?? event.tsUs)));
  const total = weights.reduce((a, b) => a + b, 0);
  const room = WIDTH - LEFT - 40;
  const least = Math.min(MIN_GAP, room / Math.max(1, events.length));
  const spare = room - least * Math.max(0, events.length - 1);
  // few events at nearly the same time need not fill the width
  const scale = total > 0 ? Math.min(spare / total, 90) : 0;
  let x = LEFT + 18;
  return weights.map((weight, i) => {
    if (i > 0) x += least + weight * scale;
    return x;
  });
}

function timeLabels(events: readonly Numbered[], xs: readonly number[], y: number): Markup[] {
  let last = -Infinity;
  return events.flatMap((event, i) => {
    const x = xs[i] ?? 0;
    if (x - last < 78) return [];
    last = x;
    return [
      html`<text class="axis" x="${x.toFixed(1)}" y="${y}" text-anchor="middle">${event.tsUs < 1_000_000 ? duration(event.tsUs) : `${(event.tsUs / 1_000_000).toFixed(3)} s`}</text>`,
    ];
  });
}

const DOT = {
  bad: html`fill="var(--bad)" stroke="var(--bad)"`,
  good: html`fill="var(--good)" stroke="var(--good)"`,
  plain: html`fill="var(--card)" stroke="var(--accent)"`,
} as const;
const DOT_TEXT = {
  bad: html`style="fill:var(--card)"`,
  good: html`style="fill:var(--card)"`,
  plain: html`style="fill:var(--accent)"`,
} as const;

function lanePicture(events: readonly Numbered[]): Markup {
  const lanes = laneNames(events);
  const xs = places(events);
  const laneOf = (who: string): number => (lanes.includes(who) ? lanes.indexOf(who) : lanes.length - 1);
  const yOf = (event: Numbered): number => 20 + laneOf(event.who) * LANE;
  const bottom = 20 + lanes.length * LANE;
  const path = events.map((event, i) => `${(xs[i] ?? 0).toFixed(1)},${yOf(event)}`).join(' ');
  const short = (name: string): string => (name.length > 20 ? `${name.slice(0, 19)}…` : name);
  return html`<div class="scroll"><svg viewBox="0 0 ${WIDTH} ${bottom + 8}" role="img" aria-label="Timeline, one lane per actor">
${lanes.map((name, i) => html`<line class="frame" x1="${LEFT}" x2="${WIDTH}" y1="${20 + i * LANE}" y2="${20 + i * LANE}"/><text class="lane" x="0" y="${24 + i * LANE}">${short(name)}<title>${name}</title></text>`)}
<polyline points="${path}" fill="none" stroke="var(--accent)" stroke-opacity=".28" stroke-width="1.5"/>
${events.map((event, i) => {
  const tone = event.tone ?? 'plain';
  const x = (xs[i] ?? 0).toFixed(1);
  return html`<g><title>${instant(event.tsUs)} · ${event.who} · ${event.what}</title><circle cx="${x}" cy="${yOf(event)}" r="9.5" stroke-width="1.6" ${DOT[tone]}/>
<text x="${x}" y="${yOf(event) + 3.6}" text-anchor="middle" ${DOT_TEXT[tone]} font-weight="650"><tspan style="font-size:${event.index + 1 > 99 ? 8 : 10}px">${event.index + 1}</tspan></text></g>`;
})}
${timeLabels(events, xs, bottom)}</svg></div>`;
}

function eventRows(events: readonly Numbered[]): Markup[] {
  let next = 0;
  return events.map((event) => {
    const skipped = event.index - next;
    next = event.index + 1;
    return html`${skipped > 0 && html`<tr class="gap"><td></td><td colspan="4">${plural(skipped, 'event')} not shown</td></tr>`}
<tr><td><span class="dot ${event.tone ?? 'plain'}">${event.index + 1}</span></td><td class="num nowrap">${instant(event.tsUs)}</td><td class="nowrap"><b>${event.who}</b></td>
<td class="wrap${event.tone === 'bad' ? ' bad' : ''}">${prose(event.what)}</td><td class="wrap soft">${event.detail !== undefined && prose(event.detail)}</td></tr>`;
  });
}

export function timelineSection(timeline: readonly TimelineEvent[]): Markup | false {
  if (timeline.length === 0) return false;
  const events = selectEvents(timeline);
  const rows = html`<div class="scroll"><table><thead><tr><th>#</th><th class="num">at</th><th>who</th><th>what</th><th>detail</th></tr></thead><tbody>${eventRows(events)}</tbody></table></div>`;
  return html`${lanePicture(events)}<details class="more"${events.length <= 16 && html` open`}><summary>The ${count(events.length)} events in words</summary>${rows}</details>`;
}
