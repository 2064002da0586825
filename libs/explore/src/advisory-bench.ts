// The advisory bench: every row's litmus test, so many at a time, each in threads of its own. A row holds when each broken variant
// was found, each other one was silent under all invariants, and there is one of both.
import type { RowOptions, RowVariant } from './bench-row.ts';
import type { TestFacts } from './jobs.ts';
import type { Advisory } from './litmus.ts';
import type { Mutant } from './mutants.ts';
import { ExplorerFailed, runExplorer } from './session.ts';
import type { TeethReport } from './teeth.ts';

export interface BenchFile {
  readonly path: string;
  readonly shownPath: string;
}

export interface BenchOptions extends RowOptions {
  readonly workers: number;
  /** Seconds for the teeth of each row; 0: none. */
  readonly teethSeconds: number;
  /** This row only. */
  readonly only: string | null;
}

export interface BenchRow {
  readonly file: string;
  readonly advisory: Advisory;
  readonly title: string;
  readonly source: string;
  readonly actors: number;
  readonly hardware: number;
  readonly variants: readonly RowVariant[];
  /** Of the first variant that holds. */
  readonly teeth: TeethReport | null;
  readonly seconds: number;
  /** Why the row fails; empty: it holds. */
  readonly problems: readonly string[];
}

/** Rows in the order of their files; `onRow` as each is done. */
export async function benchAdvisories(
  files: readonly BenchFile[],
  options: BenchOptions,
  onRow: (row: BenchRow) => void,
  signal: AbortSignal,
): Promise<BenchRow[]> {
  const rows: (BenchRow | null)[] = files.map(() => null);
  let next = 0;
  const work = async (): Promise<void> => {
    for (let at = next++; at < files.length; at = next++) {
      const row = await benchFile(files[at] as BenchFile, options, signal);
      rows[at] = row;
      if (row !== null) onRow(row);
    }
  };
  await Promise.all(Array.from({ length: options.workers }, work));
  return rows.filter((row) => row !== null);
}

async function benchFile(file: BenchFile, options: BenchOptions, signal: AbortSignal): Promise<BenchRow | null> {
  const began = performance.now();
  const variants: RowVariant[] = [];
  const problems: string[] = [];
  let facts: TestFacts | null = null;
  const { furtherSeconds, seconds, chanceSeconds } = options;
  const named = idOf(file);
  if (options.only !== null && named !== idOf({ path: options.only, shownPath: options.only })) return null;
  try {
    const job = { is: 'row', variants: null, options: { furtherSeconds, seconds, chanceSeconds } } as const;
    await runExplorer(
      { ...file, job },
      (message) => {
        if (message.is === 'facts') facts = message.facts;
        else if (message.is === 'row') variants.push(message.variant);
      },
      signal,
    );
  } catch (error) {
    if (signal.aborted) throw error;
    problems.push(...messagesOf(error));
  }
  const told = facts as TestFacts | null; // set by the callback
  problems.push(...problemsOf(told, variants));
  const held = variants.find(({ report }) => report.expected === 'holds' && report.pass);
  const wantsTeeth = options.teethSeconds > 0 && held !== undefined;
  const teeth = wantsTeeth ? await runTeeth(file, [held.report.variant], options.teethSeconds, signal) : [];
  return {
    file: file.shownPath,
    advisory: told?.advisory ?? { id: named, kind: 'race', grain: 'model' },
    title: told?.title ?? '',
    source: told?.source ?? '',
    actors: told?.actors.length ?? 0,
    hardware: told?.hardware ?? 0,
    variants,
    teeth: teeth[0] ?? null,
    seconds: (performance.now() - began) / 1000,
    problems,
  };
}

/** A row that cannot be loaded or run is one that fails; the others go on. */
function messagesOf(error: unknown): string[] {
  if (!(error instanceof ExplorerFailed)) return [String(error)];
  const { message, problems = [] } = error.mistake;
  return [message, ...problems.map((p) => `${p.line ?? ''}: ${p.message}`)];
}

/** `XSA-384/486` → `xsa-384-486`, as its file is called. */
const idOf = ({ path }: BenchFile): string =>
  path
    .toLowerCase()
    .replace(/^.*advisories\//, '')
    .replace(/\.[mc]?[jt]s$/, '')
    .replace(/[^a-z0-9]+/g, '-');

function problemsOf(facts: TestFacts | null, variants: readonly RowVariant[]): string[] {
  const problems: string[] = [];
  if (facts !== null && facts.advisory === null) problems.push('it does not say which advisory it is');
  if (facts?.advisory?.grain === 'steps' && facts.advisory.why === undefined) {
    problems.push("it is a step program, and does not say what is below the model's grain");
  }
  if (!variants.some(({ report }) => report.expected !== 'holds')) problems.push('no variant of it is broken');
  if (!variants.some(({ report }) => report.expected === 'holds')) problems.push('no variant of it holds');
  for (const { report } of variants) {
    if (!report.pass) problems.push(`${report.variant}: ${report.problem ?? 'not as expected'}${found(report)}`);
  }
  return problems;
}

const found = ({ counterexample }: RowVariant['report']): string =>
  counterexample === null ? '' : `: ${counterexample.invariant} – ${counterexample.text} (${counterexample.replay})`;

/** Again and again, each time without the mutants that did not come back. */
export async function runTeeth(
  file: BenchFile,
  variants: readonly string[] | null,
  seconds: number,
  signal: AbortSignal,
  begins: (mutant: Mutant) => void = () => {},
): Promise<TeethReport[]> {
  const stuck: Mutant[] = [];
  for (;;) {
    const reports: TeethReport[] = [];
    let last: Mutant | null = null;
    try {
      await runExplorer(
        { ...file, job: { is: 'teeth', variants, seconds, stuck } },
        (message) => {
          if (message.is === 'mutant') {
            last = message.mutant;
            begins(last);
          } else if (message.is === 'teeth') reports.push(message.report);
        },
        signal,
      );
      return reports;
    } catch (error) {
      if (!(error instanceof ExplorerFailed) || last === null || error.mistake.exitCode !== 2) throw error;
      stuck.push(last);
    }
  }
}
