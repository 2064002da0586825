// The twins side by side: what they were given (the policy knobs that differ), what became of them, and the counters in
// which they differ (what a fix costs).
import type { TwinResult, Verdict } from '../verdict.ts';
import { count, duration, html, type Markup, plural } from './markup.ts';

const COUNTERS_SHOWN = 14;
const VERDICT_MARKS: Readonly<Record<Verdict, string>> = { pass: '✓', fail: '✗', unknown: '?' };

export const verdictBadge = (verdict: Verdict, big = false): Markup =>
  html`<span class="badge ${verdict}${big ? ' big' : ''}">${VERDICT_MARKS[verdict]} ${verdict.toUpperCase()}</span>`;

export const kindTag = (kind: TwinResult['kind']): Markup => html`<span class="tag ${kind}">${kind}</span>`;

/** Fragment identifier of a twin's section: by position, since its name may hold anything. */
export const twinId = (index: number): string => `twin-${index + 1}`;

export const violationCount = (twin: TwinResult): number => twin.violations.reduce((n, v) => n + v.count, 0);

/** Knobs that do not have the same value in every twin. */
export function differingKnobs(twins: readonly TwinResult[]): string[] {
  const knobs = new Set(twins.flatMap(({ policies }) => Object.keys(policies)));
  return [...knobs].filter((knob) => new Set(twins.map(({ policies }) => policies[knob])).size > 1).sort();
}

/** What a twin's outcome means, in a few words: a buggy twin passes by breaking. */
export function outcomeWords(twin: TwinResult): string {
  if (twin.verdict === 'unknown') return 'could not be decided';
  if (twin.kind === 'buggy') return twin.verdict === 'pass' ? 'breaks, as expected' : 'did not break as expected';
  if (twin.kind === 'fixed') return twin.verdict === 'pass' ? 'holds' : 'does not hold';
  return twin.verdict === 'pass' ? 'as expected' : 'not as expected';
}

function zeroOr(n: number): Markup {
  return n === 0 ? html`<td class="num faint">0</td>` : html`<td class="num bad">${count(n)}</td>`;
}

export function comparisonTable(twins: readonly TwinResult[]): Markup {
  const knobs = differingKnobs(twins);
  const row = (twin: TwinResult, index: number): Markup => {
    const held = twin.assertions.filter(({ ok }) => ok === true).length;
    return html`<tr><td class="nowrap"><a href="#${twinId(index)}"><b>${twin.name}</b></a><br><span class="small soft">${outcomeWords(twin)}</span></td><td>${kindTag(twin.kind)}</td>
<td>${verdictBadge(twin.verdict)}</td>${knobs.map((knob) => html`<td><span class="knob differs">${twin.policies[knob] ?? '–'}</span></td>`)}
<td class="num">${count(twin.attempts)}</td>${zeroOr(twin.faultCount)}${zeroOr(violationCount(twin))}<td class="num">${held} / ${twin.assertions.length}</td></tr>`;
  };
  return html`<section class="card"><h2>The twins side by side</h2><div class="scroll"><table>
<thead><tr><th>twin</th><th>kind</th><th>verdict</th>${knobs.map((knob) => html`<th class="mono">${knob}</th>`)}<th class="num">attempts</th><th class="num">DMA<br>faults</th>
<th class="num">viola-<br>tions</th><th class="num">assertions<br>that hold</th></tr></thead><tbody>${twins.map(row)}</tbody></table></div>${commonKnobs(twins, knobs)}</section>`;
}

function commonKnobs(twins: readonly TwinResult[], differing: readonly string[]): Markup | false {
  const same = Object.entries(twins[0]?.policies ?? {}).filter(([knob]) => !differing.includes(knob));
  if (same.length === 0) return false;
  return html`<details class="more"><summary>${plural(same.length, 'knob')} that all twins share</summary><div class="columns">${same.map(
    ([knob, value]) => html`<div><span class="mono soft">${knob}</span><span class="mono">${value}</span></div>`,
  )}</div></details>`;
}

/** Counters that differ between twins: by how much, relative to the largest; the largest factors first. */
export function costTable(twins: readonly TwinResult[]): Markup | false {
  if (twins.length < 2) return false;
  const names = new Set(twins.flatMap(({ counters }) => Object.keys(counters)));
  const rows = [...names].flatMap((name) => {
    const values = twins.map(({ counters }) => counters[name]);
    const known = values.filter((value) => value !== undefined);
    const max = Math.max(...known);
    const spread = known.length < 2 ? 0 : (max - Math.min(...known)) / Math.max(1, max);
    return spread > 0.01 ? [{ name, values, max, spread }] : [];
  });
  if (rows.length === 0) return false;
  rows.sort((a, b) => b.spread - a.spread || a.name.localeCompare(b.name));
  const render = (part: typeof rows): Markup => html`<div class="scroll"><table>
<thead><tr><th>counter</th>${twins.map(({ name }) => html`<th class="num narrow">${name}</th>`)}</tr></thead><tbody>${part.map(
    ({ name, values, max }) =>
      html`<tr><td class="mono soft">${name}</td>${values.map((value) => costCell(value, max))}</tr>`,
  )}</tbody></table></div>`;
  const rest = rows.slice(COUNTERS_SHOWN);
  return html`<section class="card"><h2>What each twin cost</h2><p class="soft">Counters in which the twins differ; bars are relative to the largest of the row.</p>
${render(rows.slice(0, COUNTERS_SHOWN))}${rest.length > 0 && html`<details class="more"><summary>${plural(rest.length, 'more counter')}</summary>${render(rest)}</details>`}</section>`;
}

function costCell(value: number | undefined, max: number): Markup {
  if (value === undefined) return html`<td class="num faint">–</td>`;
  const width = max > 0 ? Math.max(0, Math.min(100, (value / max) * 100)) : 0;
  return html`<td class="num">${count(value)}<br><span class="bar short"><i class="hold" style="width:${width.toFixed(1)}%"></i></span></td>`;
}

/** One sentence over the whole run. */
export function summarySentence(twins: readonly TwinResult[]): string {
  const of = (kind: TwinResult['kind']): readonly TwinResult[] => twins.filter((twin) => twin.kind === kind);
  const passed = (list: readonly TwinResult[]): number => list.filter(({ verdict }) => verdict === 'pass').length;
  const parts: string[] = [];
  const [buggy, fixed, plain] = [of('buggy'), of('fixed'), of('plain')];
  if (buggy.length > 0) parts.push(`${passed(buggy)} of ${plural(buggy.length, 'buggy twin')} broke as expected`);
  if (fixed.length > 0) parts.push(`${passed(fixed)} of ${plural(fixed.length, 'fixed twin')} held`);
  if (plain.length > 0) parts.push(`${passed(plain)} of ${plural(plain.length, 'plain run')} did as expected`);
  return parts.length === 0 ? 'No twin ran.' : `${parts.join(', ')}.`;
}

export function tiles(twins: readonly TwinResult[], durationMs: number): Markup {
  const sum = (of: (twin: TwinResult) => number): number => twins.reduce((n, twin) => n + of(twin), 0);
  const list: [string, string][] = [
    [count(twins.length), twins.length === 1 ? 'twin' : 'twins'],
    [count(sum((twin) => twin.attempts)), 'attempts'],
    [count(sum((twin) => twin.faultCount)), 'DMA faults'],
    [count(sum(violationCount)), 'invariant violations'],
    [duration(durationMs * 1000), 'duration'],
  ];
  return html`<div class="tiles">${list.map(([value, label]) => html`<div class="tile"><b>${value}</b><span>${label}</span></div>`)}</div>`;
}
