// The plain tables of a twin: assertions, invariants, DMA faults, E820, counters. Long ones show their first rows and
// fold the rest.
import { e820TypeName } from '#formats/e820-text';
import { formatSbdf, PAGE_SIZE, type Sbdf } from '#model/frames/addresses';
import type { MemoryMapEntry } from '#model/hypercall/calls';
import type { AssertionOutcome, DmaFault, InvariantViolation, ReportTable, TwinResult } from '../verdict.ts';
import { bytes, count, hex, html, instant, type Markup, plural, prose } from './markup.ts';

const FAULTS_SHOWN = 8;

export function reportTable({ caption, head, rows }: ReportTable): Markup {
  return html`<div class="scroll"><table><caption>${caption}</caption>
<thead><tr>${head.map((cell) => html`<th>${cell}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${row.map((cell) => html`<td>${prose(cell)}</td>`)}</tr>`)}</tbody></table></div>`;
}

const MARKS = {
  true: html`<span class="good-text" title="holds">✓</span>`,
  false: html`<span class="bad-text" title="does not hold">✗</span>`,
  unknown: html`<span class="unsure-text" title="could not be observed">?</span>`,
} as const;

export function assertionTable(assertions: readonly AssertionOutcome[]): Markup {
  if (assertions.length === 0) return html`<p class="soft">Nothing was asserted about this twin.</p>`;
  return html`<div class="scroll"><table>
<thead><tr><th></th><th>asserted</th><th>expected</th><th>found</th><th>evidence</th></tr></thead>
<tbody>${assertions.map(
    (
      a,
    ) => html`<tr><td>${MARKS[`${a.ok}`]}</td><td class="wrap">${prose(a.text)}</td><td class="mono">${a.expected}</td>
<td class="mono${a.ok === false ? ' bad' : ''}">${a.found}</td><td class="mono wrap soft">${a.evidence}</td></tr>`,
  )}</tbody></table></div>`;
}

export function invariantTable(violations: readonly InvariantViolation[]): Markup {
  if (violations.length === 0) return html`<p class="soft">No invariant was violated.</p>`;
  return html`<div class="scroll"><table>
<thead><tr><th>invariant</th><th class="num">times</th><th>first at</th><th>first violation</th><th>evidence</th></tr></thead>
<tbody>${violations.map(
    (v) => html`<tr><td><span class="mono bad-text">${v.invariant}</span></td><td class="num">${count(v.count)}</td>
<td class="nowrap">${instant(v.first.tsUs)}</td><td class="wrap">${prose(v.first.text)}</td><td class="mono wrap soft">${v.first.evidence}</td></tr>`,
  )}</tbody></table></div>`;
}

function faultRow(fault: DmaFault): Markup {
  // the type says plain number: verdict.json knows no brands
  const device = formatSbdf(fault.sbdf as Sbdf);
  return html`<tr><td class="nowrap num">${instant(fault.tsUs)}</td><td class="mono nowrap">${device}</td><td class="nowrap">d${fault.domid}</td>
<td class="mono nowrap"><b>${hex(fault.dfn * PAGE_SIZE)}</b></td><td class="mono">${hex(fault.reason, 2)}</td><td class="wrap"><pre class="log">${fault.text}</pre></td></tr>`;
}

function faultRows(faults: readonly DmaFault[]): Markup {
  return html`<div class="scroll"><table><thead><tr><th class="num">at</th><th>device</th><th>domain</th><th>address</th><th>reason</th><th>Xen's log</th></tr></thead>
<tbody>${faults.map(faultRow)}</tbody></table></div>`;
}

/** Faults by address, most frequent first, then in the order in which they came. */
export function faultsByDfn(faults: readonly DmaFault[]): { dfn: number; times: number }[] {
  const times = new Map<number, number>();
  for (const { dfn } of faults) times.set(dfn, (times.get(dfn) ?? 0) + 1);
  return [...times].map(([dfn, n]) => ({ dfn, times: n })).sort((a, b) => b.times - a.times);
}

export function faultTable({ faults, faultCount }: Pick<TwinResult, 'faults' | 'faultCount'>): Markup {
  if (faultCount === 0) return html`<p class="soft">No DMA fault.</p>`;
  const rest = faults.slice(FAULTS_SHOWN);
  const lost = faultCount - faults.length;
  return html`<p class="soft">${plural(faultCount, 'fault')} on ${plural(faultsByDfn(faults).length, 'frame')}${
    lost > 0 && html`; the first ${count(faults.length)} were kept, ${count(lost)} later ones were only counted`
  }.</p>${faultRows(faults.slice(0, FAULTS_SHOWN))}${
    rest.length > 0 &&
    html`<details class="more"><summary>${plural(rest.length, 'more fault')}</summary>${faultRows(rest)}</details>`
  }`;
}

export function e820Table(entries: readonly MemoryMapEntry[]): Markup {
  let lastEnd = 0;
  const row = (entry: MemoryMapEntry, index: number): Markup => {
    const hole = entry.addr > lastEnd;
    const from = lastEnd;
    lastEnd = entry.addr + entry.size;
    return html`${
      hole &&
      html`<tr class="gap"><td></td><td class="mono">${hex(from, 9)}</td><td class="mono">${hex(entry.addr, 9)}</td><td class="num">${bytes(entry.addr - from)}</td><td>hole</td></tr>`
    }<tr><td class="mono faint">[${`${index}`.padStart(2, '0')}]</td><td class="mono">${hex(entry.addr, 9)}</td><td class="mono">${hex(lastEnd, 9)}</td>
<td class="num">${bytes(entry.size)}</td><td>${e820TypeName(entry.type)}</td></tr>`;
  };
  return html`<div class="scroll"><table><thead><tr><th></th><th>from</th><th>to (exclusive)</th><th class="num">size</th><th>type</th></tr></thead>
<tbody>${entries.map(row)}</tbody></table></div>`;
}

export function counterList(counters: Readonly<Record<string, number>>): Markup {
  const names = Object.keys(counters).sort();
  return html`<div class="columns">${names.map(
    (name) => html`<div><span class="mono soft">${name}</span><b>${count(counters[name] ?? 0)}</b></div>`,
  )}</div>`;
}
