// The report of a run: one HTML file that needs nothing else (no script, no external resource; a content security policy
// holds it to that). This file owns the page's order; report/*.ts own its sections. It reads a RunResult and nothing else.
import {
  comparisonTable,
  costTable,
  kindTag,
  outcomeWords,
  summarySentence,
  tiles,
  twinId,
  verdictBadge,
  violationCount,
} from './report/comparison.ts';
import { lockTable } from './report/lock-table.ts';
import { count, duration, html, Markup, plural, prose } from './report/markup.ts';
import { memoryBar } from './report/memory-bar.ts';
import { STYLE } from './report/style.ts';
import { assertionTable, counterList, e820Table, faultTable, invariantTable, reportTable } from './report/tables.ts';
import { timelineSection } from './report/timeline.ts';
import type { Explanation, RunResult, TwinResult } from './verdict.ts';

const FILES: readonly (readonly [string, string])[] = [
  ['verdict.json', 'everything on this page, for programs'],
  ['trace.json', 'every vCPU, device and pCPU on one time line: open it in ui.perfetto.dev'],
  ['history.ndjson', 'what was asked of the hypervisor and what it answered, one record a line'],
  ['messages.mmd', 'the messages between the actors, a Mermaid sequence diagram'],
  ['xl-dmesg.txt', "Xen's console"],
  ['lockprof.txt', "the lock profile in xenlockprof's columns"],
  ['logs/', 'what each process logged'],
];

/** The whole document. */
export function renderReport(run: RunResult): string {
  const openByDefault = twinsToOpen(run.twins);
  const page = html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<title>${run.verdict} · ${run.scenario} · hostloom</title><style>${new Markup(STYLE)}</style></head>
<body><main class="page">${pageHead(run)}${tiles(run.twins, run.durationMs)}${comparisonTable(run.twins)}${costTable(run.twins)}
<h2>Twin by twin</h2>${run.twins.map((twin, index) => twinSection(twin, index, openByDefault.has(index)))}${hostCard(run)}${pageFoot(run)}</main></body></html>
`;
  return page.text;
}

/** What a reader wants first: everything that did not pass, and the first buggy twin; of one or two twins, all. */
function twinsToOpen(twins: readonly TwinResult[]): Set<number> {
  const open = new Set<number>();
  const firstBuggy = twins.findIndex(({ kind }) => kind === 'buggy');
  for (const [index, twin] of twins.entries()) {
    if (twins.length <= 2 || twin.verdict !== 'pass' || index === firstBuggy) open.add(index);
  }
  if (open.size === 0 && twins.length > 0) open.add(0);
  return open;
}

function pageHead(run: RunResult): Markup {
  return html`<header class="top"><div><div class="kicker"><span class="mono">${run.scenario}</span><span>on ${run.host.name}</span><time datetime="${run.startedAt}">${run.startedAt
    .replace('T', ' ')
    .replace(/\.\d+Z$/, ' UTC')}</time></div>
<h1>${run.question}</h1><p class="lede">${summarySentence(run.twins)}</p></div><div>${verdictBadge(run.verdict, true)}</div></header>`;
}

// The fragment names the inside: a browser then opens a folded section that a link leads to.
function twinSection(twin: TwinResult, index: number, open: boolean): Markup {
  const id = twinId(index);
  const violations = violationCount(twin);
  const section = (title: string, content: Markup | false): Markup | false =>
    content !== false && html`<h3>${title}</h3>${content}`;
  return html`<details class="twin"${open && html` open`}><summary><strong>${twin.name}</strong>${kindTag(twin.kind)}
<span class="soft">${twin.title}</span><span class="right soft"><span>${plural(twin.attempts, 'attempt')} · ${plural(twin.faultCount, 'fault')} · ${plural(violations, 'violation')} · ${duration(twin.durationMs * 1000)}</span>
<span>${outcomeWords(twin)}</span>${verdictBadge(twin.verdict)}</span></summary><div class="inside" id="${id}">
${twin.explanation.map(explanationBlock)}
${section('Asserted', assertionTable(twin.assertions))}
${section('Guest memory', memoryBar(twin, id))}
${section('Timeline', timelineSection(twin.timeline))}
${section('DMA faults', faultTable(twin))}
${section('Invariants', invariantTable(twin.violations))}
${section('E820 the guest was given', twin.e820 !== undefined && e820Table(twin.e820))}
${section('Locks', twin.locks.length > 0 && lockTable(twin.locks))}
${section('Counters', Object.keys(twin.counters).length > 0 && counterList(twin.counters))}
${section('Policies', policyList(twin))}</div></details>`;
}

function explanationBlock(explanation: Explanation): Markup {
  return html`<div class="why"><h4>${prose(explanation.title)}</h4>${explanation.paragraphs.map((text) => html`<p>${prose(text)}</p>`)}${explanation.tables?.map(reportTable)}</div>`;
}

function policyList(twin: TwinResult): Markup | false {
  const entries = Object.entries(twin.policies);
  if (entries.length === 0) return false;
  return html`<div class="columns">${entries.map(([knob, value]) => html`<div><span class="mono soft">${knob}</span><span class="mono">${value}</span></div>`)}</div>`;
}

function hostCard(run: RunResult): Markup {
  const facts = Object.entries(run.host.facts);
  return html`<section class="card" style="margin-top:26px"><h2>The host: ${run.host.name}</h2><div class="columns">${facts.map(
    ([key, value]) => html`<div><span class="soft">${key}</span><span>${value}</span></div>`,
  )}</div></section>`;
}

function pageFoot(run: RunResult): Markup {
  const files = FILES.map(([name, words]) => html`<li><a href="${name}"><code>${name}</code></a> ${words}</li>`);
  return html`<footer>${run.command !== undefined && html`<p>Again: <code>${run.command}</code></p>`}
<p>Beside this page in the run directory (${count(FILES.length)}):</p><ul>${files}</ul></footer>`;
}
