// The page of an experiment: a question, the answer in words, and the figures it rests on, as charts and tables. The same content is
// written as one HTML file that needs nothing else, and as Markdown for docs/. It does not know what was measured.
import type { LockProfileRow } from '#formats/lockprof';
import { type LineChart, lineChart } from './report/line-chart.ts';
import { lockTable } from './report/lock-table.ts';
import { html, Markup, prose } from './report/markup.ts';
import { STYLE } from './report/style.ts';
import { reportTable } from './report/tables.ts';
import type { ReportTable } from './verdict.ts';

export interface ExperimentSection {
  readonly heading: string;
  /** Text between backticks is shown as code. */
  readonly paragraphs: readonly string[];
  readonly tables: readonly ReportTable[];
  readonly charts?: readonly { readonly file: string; readonly chart: LineChart }[];
  readonly locks?: { readonly caption: string; readonly rows: readonly LockProfileRow[]; readonly text: string };
}

export interface Experiment {
  readonly name: string;
  readonly question: string;
  /** The answer in a sentence, and what it rests on. */
  readonly verdict: string;
  readonly answer: readonly string[];
  /** What repeats it. */
  readonly command: string;
  /** Machine, date, time taken. */
  readonly facts: readonly string[];
  readonly sections: readonly ExperimentSection[];
}

function sectionHtml({ heading, paragraphs, tables, charts = [], locks }: ExperimentSection): Markup {
  return html`<section class="card"><h2>${heading}</h2>${paragraphs.map((p) => html`<p>${prose(p)}</p>`)}
${charts.map(({ chart }) => html`<div class="scroll">${lineChart(chart)}</div>`)}${tables.map(reportTable)}${
  locks &&
  html`<h3>${locks.caption}</h3>${lockTable(locks.rows)}<div class="scroll"><pre class="log">${locks.text}</pre></div>`
}</section>`;
}

export function renderExperiment(page: Experiment): string {
  return html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<title>${page.name} · hostloom</title><style>${new Markup(STYLE)}</style></head>
<body><main class="page"><header class="top"><div><div class="kicker"><span class="mono">${page.name}</span></div>
<h1>${page.question}</h1></div></header>
<div class="why"><h4>${page.verdict}</h4>${page.answer.map((p) => html`<p>${prose(p)}</p>`)}</div>
${page.sections.map(sectionHtml)}
<footer><ul>${[`Again: \`${page.command}\``, ...page.facts].map((fact) => html`<li>${prose(fact)}</li>`)}</ul></footer></main></body></html>
`.text;
}

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');

function tableMarkdown({ caption, head, rows }: ReportTable): string {
  const line = (cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`;
  return `${caption === '' ? '' : `**${caption}**\n\n`}${[line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')}`;
}

function sectionMarkdown({ heading, paragraphs, tables, charts = [], locks }: ExperimentSection): string {
  const parts = [
    `## ${heading}`,
    ...paragraphs,
    ...charts.map(({ file, chart }) => `![${chart.title}](${file})`),
    ...tables.map(tableMarkdown),
    ...(locks ? [`**${locks.caption}**\n\n\`\`\`text\n${locks.text.trimEnd()}\n\`\`\``] : []),
  ];
  return parts.join('\n\n');
}

/** `generator` stands in a comment: who writes the file. */
export function experimentMarkdown(page: Experiment, generator: string): string {
  return `<!-- ${generator} -->

# ${page.question}

**${page.verdict}**

${page.answer.join('\n\n')}

Again: \`${page.command}\`

${page.sections.map(sectionMarkdown).join('\n\n')}

## This run

${page.facts.map((fact) => `- ${fact}`).join('\n')}
`;
}

/** The charts as files to stand beside the Markdown. */
export function experimentCharts(page: Experiment): { readonly file: string; readonly text: string }[] {
  return page.sections.flatMap(({ charts = [] }) =>
    charts.flatMap(({ file, chart }) => {
      const drawn = lineChart(chart);
      return drawn ? [{ file, text: `${drawn.text}\n` }] : [];
    }),
  );
}
