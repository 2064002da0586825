// What the advisory bench found, as lines for a terminal and as docs/advisories.md. Every number in it is one that a row's report has.
import type { BenchRow } from './advisory-bench.ts';
import type { RowVariant, Spread } from './bench-row.ts';

const BOUND = 2;

const number = (n: number): string => n.toLocaleString('en-US');

/** Of a variant that is broken: what the searches took; of one that holds: what was covered. */
function spreadText(spread: Spread | null): string {
  if (spread === null) return '–';
  if (spread.runs === 0) return 'not in the time';
  if (spread.found === 0) return `none of ${spread.runs}`;
  const some = spread.found < spread.runs ? ` (${spread.found} of ${spread.runs})` : '';
  return `${number(spread.median)} / ${number(spread.max)}${some}`;
}

function coveredText({ report, chance }: RowVariant): string {
  const { complete } = report;
  if (report.counterexample !== null) return '';
  if (complete !== null && complete >= BOUND) return `all up to ${complete}`;
  const searched = `${number(chance?.schedules ?? 0)} by chance only`;
  return complete !== null && complete >= 0 ? `all up to ${complete}; ${searched}` : searched;
}

function engine({ report }: RowVariant): string {
  return report.cases > 1 ? `exhaustive, ${number(report.cases)} cases` : 'exhaustive';
}

interface Cells {
  readonly variant: string;
  readonly engine: string;
  readonly exhaustive: string;
  readonly random: string;
  readonly pct: string;
  readonly preemptions: string;
  readonly traces: string;
  readonly covered: string;
  readonly seconds: string;
  readonly verdict: string;
}

function cellsOf(variant: RowVariant): Cells {
  const { report, random, pct } = variant;
  const { counterexample } = report;
  return {
    variant: report.variant,
    engine: engine(variant),
    exhaustive: counterexample === null ? '–' : number(report.first),
    random: spreadText(random),
    pct: spreadText(pct),
    preemptions: counterexample === null ? '–' : String(counterexample.preemptions),
    traces: number(report.distinct),
    covered: coveredText(variant),
    seconds: report.seconds.toFixed(2),
    verdict: `${report.pass ? '' : '✗ '}${counterexample === null ? 'silent' : counterexample.invariant}`,
  };
}

export interface Summary {
  readonly rows: number;
  readonly holding: number;
  readonly onModel: number;
  readonly chanceOnly: number;
  readonly mutants: number;
  readonly caught: number;
  readonly redundant: number;
  readonly untried: number;
  readonly seconds: number;
}

export function summaryOf(rows: readonly BenchRow[], seconds: number): Summary {
  const sum = (of: (row: BenchRow) => number): number => rows.reduce((all, row) => all + of(row), 0);
  return {
    rows: rows.length,
    holding: sum(({ problems }) => (problems.length === 0 ? 1 : 0)),
    onModel: sum(({ advisory }) => (advisory.grain === 'model' ? 1 : 0)),
    chanceOnly: sum(({ variants }) => variants.filter(({ chance }) => chance !== null).length),
    mutants: sum(({ teeth }) => teeth?.mutants ?? 0),
    caught: sum(({ teeth }) => teeth?.caught.length ?? 0),
    redundant: sum(({ teeth }) => teeth?.redundant ?? 0),
    untried: sum(({ teeth }) => teeth?.untried ?? 0),
    seconds,
  };
}

/** One row as it is done. */
export function rowLines(row: BenchRow): string[] {
  const { advisory, teeth } = row;
  const grain = advisory.grain === 'model' ? '' : ', step program';
  const head = `${row.problems.length === 0 ? '✓' : '✗'} ${advisory.id.padEnd(14)} ${row.title} (${advisory.kind}${grain}; ${row.seconds.toFixed(1)} s)`;
  const lines = row.variants.map((variant) => {
    const c = cellsOf(variant);
    const found = `${c.verdict}: schedule ${c.exhaustive}, ${c.preemptions} preemptions; random ${c.random}, pct ${c.pct}`;
    const silent = `${c.verdict}: ${c.traces} traces, ${c.covered}`;
    return `    ${c.variant}: ${variant.report.counterexample === null ? silent : found}`;
  });
  const bite = teeth === null ? [] : [`    teeth: ${teeth.caught.length} of ${teeth.mutants}`];
  return [head, ...lines, ...bite, ...row.problems.map((problem) => `    ✗ ${problem}`)];
}

export function summaryLines(s: Summary): string[] {
  const teeth = s.mutants === 0 ? '' : `; teeth: ${s.caught} of ${s.mutants} mutants are noticed (${percent(s)})`;
  return [
    `${s.holding} of ${s.rows} rows hold, ${s.onModel} of them on the model's own operations, ${s.seconds.toFixed(0)} s${teeth}`,
  ];
}

const percent = ({ caught, mutants }: Summary): string => `${Math.floor((100 * caught) / mutants)} %`;
const cell = (text: string): string => text.replaceAll('|', '\\|');

const HEAD = `<!-- Written by \`hostloom bench advisories\`: change the rows in litmus/advisories, then run it again. -->

# The advisory bench

Every row is a published bug of Xen's memory plane, or of the stories this project began with, as a litmus test in
\`litmus/advisories\`: with the bug it must be found, with the fix nothing may be found, by any invariant. A fixed variant is the
model's own code; a row on a *step program* is below the model's grain and says what is.`;

const READING = `- **schedules**: played until the first violation. *Exhaustive* is exact, fewest preemptions first; *random* and *PCT* (depth 3) are
  median / max of 20 searches with seeds of their own, 2,000 schedules each at most. "–": nothing to choose, one actor alone.
- **preemptions** that the shortest counterexample needs: switches away from software that could have gone on.
- **traces**: distinct ones that were played; **covered**: every schedule up to so many preemptions, one of each set of equivalent
  orders. *By chance only* is no proof.
- **cases**: combinations of arguments and of failures, each searched.`;

export function advisoriesPage(rows: readonly BenchRow[], summary: Summary): string {
  const head =
    '| id | title | kind | on | variant | engine | schedules: exhaustive | random | PCT | preemptions | traces | covered | seconds | verdict |';
  const rule = `|${' --- |'.repeat(14)}`;
  const lines = rows.flatMap((row) =>
    row.variants.map((variant, i) => {
      const c = cellsOf(variant);
      const first = i === 0 ? [`[${row.advisory.id}](../${row.file})`, row.title, row.advisory.kind] : ['', '', ''];
      const on = i > 0 ? '' : row.advisory.grain === 'model' ? 'model' : 'step program';
      const rest = [c.variant, c.engine, c.exhaustive, c.random, c.pct, c.preemptions, c.traces, c.covered, c.seconds];
      return `| ${[...first, on, ...rest, c.verdict].map(cell).join(' | ')} |`;
    }),
  );
  const sections = [HEAD, summaryLines(summary).join('\n'), READING, [head, rule, ...lines].join('\n')];
  const failing = rows.filter(({ problems }) => problems.length > 0);
  if (failing.length > 0) {
    sections.push(
      `## Rows that fail\n\n${failing.map((row) => row.problems.map((problem) => `- ${row.advisory.id}: ${problem}`).join('\n')).join('\n')}`,
    );
  }
  sections.push(stepPrograms(rows), notes(rows), teethSection(rows, summary));
  return `${sections.filter((section) => section !== '').join('\n\n')}\n`;
}

function stepPrograms(rows: readonly BenchRow[]): string {
  const below = rows.filter(({ advisory }) => advisory.grain === 'steps');
  if (below.length === 0) return '';
  return `## Step programs\n\n${below.map(({ advisory }) => `- ${advisory.id}: ${advisory.why ?? ''}`).join('\n')}`;
}

function notes(rows: readonly BenchRow[]): string {
  const noted = rows.filter(({ advisory }) => advisory.note !== undefined);
  if (noted.length === 0) return '';
  return `## Notes\n\n${noted.map(({ advisory }) => `- ${advisory.id}: ${advisory.note}`).join('\n')}`;
}

function teethSection(rows: readonly BenchRow[], summary: Summary): string {
  if (summary.mutants === 0) return '';
  const lines = rows.flatMap(({ advisory, teeth }) =>
    teeth === null
      ? []
      : [
          `| ${advisory.id} | ${cell(teeth.variant)} | ${teeth.mutants} | ${teeth.caught.length} | ${cell(survivors(teeth.survivors))} |`,
        ],
  );
  const untried = summary.untried === 0 ? '' : ` ${summary.untried} steps were not tried for want of time.`;
  const same = `${summary.redundant} further steps are redundant: without them nothing breaks, and all ends as with them.`;
  return `## Teeth

One effective step of the fixed variant is left out at a time – a store, a flush, a lock that somebody else wants – and the schedules with
at most one preemption are searched: ${summary.caught} of ${summary.mutants} such mutants are noticed by some invariant
(${percent(summary)}). ${same}${untried} What nobody notices is listed: \`hostloom explore FILE --teeth\` prints a replay string of each.

| row | variant | mutants | noticed | survivors |
| --- | --- | --- | --- | --- |
${lines.join('\n')}`;
}

function survivors(list: readonly { readonly actor: string; readonly what: string }[]): string {
  const counts = new Map<string, number>();
  for (const { actor, what } of list) {
    const name = `${actor}: ${what}`;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].map(([name, n]) => (n === 1 ? name : `${name} (${n}×)`)).join('; ');
}
