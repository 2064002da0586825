// The page of a replayed schedule: one HTML file that needs nothing else. Actors stand side by side, time runs down; what a step
// changed stands beside it. It knows nothing of how the schedule was found.
import { html, Markup, plural, prose } from './report/markup.ts';
import { STYLE } from './report/style.ts';

export interface ReplayPageStep {
  readonly actor: string;
  readonly text: string;
  readonly changes: readonly string[];
  readonly held: string;
  readonly lines: readonly string[];
  readonly findings: readonly { readonly invariant: string; readonly text: string }[];
}

export interface ReplayPage {
  readonly title: string;
  readonly source: string;
  readonly path: string;
  readonly variant: string;
  readonly what: string;
  readonly replay: string;
  readonly actors: readonly { readonly name: string; readonly hardware: boolean }[];
  readonly steps: readonly ReplayPageStep[];
  readonly preemptions: number;
  readonly atRest: readonly { readonly invariant: string; readonly text: string }[];
  readonly policies: Readonly<Record<string, string>>;
}

const LANES = `
.lanes td { vertical-align: top; } .lanes .step { font-family: var(--mono); font-size: 12.5px; }
.lanes .n { color: var(--faint); font-variant-numeric: tabular-nums; text-align: right; }
.lanes .change { color: var(--accent); font-size: 12.5px; } .lanes tr.switch td { border-top: 2px solid var(--accent); }
.lanes tr.bad td { background: var(--bad-soft); }`;

export function renderReplayPage(page: ReplayPage): string {
  const found = [...page.steps.flatMap(({ findings }) => findings), ...page.atRest];
  const verdict = found.length > 0 ? 'fail' : 'pass';
  const text = html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<title>${page.variant} · ${page.path} · hostloom</title><style>${new Markup(STYLE + LANES)}</style></head>
<body><main class="page"><header class="top"><div><div class="kicker"><span class="mono">${page.path}</span><span>variant ${page.variant}</span></div>
<h1>${page.title}</h1><p class="lede">${page.what}. Source: ${page.source}.</p></div>
<div><span class="badge big ${verdict}">${found.length > 0 ? 'violated' : 'holds'}</span></div></header>
<div class="why"><h4>${found[0]?.invariant ?? 'Nothing is broken in this schedule'}</h4>${found.map((f) => html`<p>${prose(`\`${f.invariant}\`: ${f.text}`)}</p>`)}
<p>${plural(page.steps.length, 'step')}, ${plural(page.preemptions, 'preemption')}. Again: ${prose(`\`hostloom replay ${page.replay}\``)}</p></div>
${lanes(page)}
<section class="card"><h2>Policies</h2><div class="columns">${Object.entries(page.policies).map(
    ([knob, value]) => html`<div><span class="mono soft">${knob}</span><span class="mono">${value}</span></div>`,
  )}</div></section></main></body></html>
`;
  return text.text;
}

function lanes({ actors, steps }: ReplayPage): Markup {
  const head = actors.map(
    ({ name, hardware }) => html`<th>${name} <span class="faint">${hardware ? 'hardware' : 'software'}</span></th>`,
  );
  const rows = steps.map((step, index) => {
    const kind = [step.findings.length > 0 ? 'bad' : '', steps[index - 1]?.actor === step.actor ? '' : 'switch'].join(
      ' ',
    );
    return html`<tr class="${kind}"><td class="n">${index + 1}</td>${actors.map(
      ({ name }) => html`<td class="step">${name === step.actor && html`${step.text}`}</td>`,
    )}<td>${step.changes.map((change) => html`<div class="change">${change}</div>`)}${step.lines.map(
      (line) => html`<div class="mono soft">(XEN) ${line}</div>`,
    )}${step.findings.map((f) => html`<div><strong>${f.invariant}</strong>: ${f.text}</div>`)}</td><td class="small soft">${step.held === '{}' ? '' : step.held}</td></tr>`;
  });
  return html`<section class="card"><div class="scroll"><table class="lanes"><thead><tr><th></th>${head}<th>what it changed</th><th>locks it holds then</th></tr></thead><tbody>${rows}</tbody></table></div></section>`;
}
