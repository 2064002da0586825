// `hostloom bench advisories`: runs the rows of litmus/advisories, prints the table, and writes it to docs/advisories.md where all rows
// were asked for. Reads options and prints; the bench is libs/explore.
import { readdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { type BenchRow, benchAdvisories } from '#explore/advisory-bench';
import { advisoriesPage, rowLines, summaryLines, summaryOf } from '#explore/advisory-table';
import { CommandError, EXIT_FAILED, EXIT_OK, EXIT_USAGE } from '../exit-codes.ts';
import { repositoryRoot } from '../repository.ts';
import type { Output } from '../terminal.ts';

export interface BenchAdvisoriesFlags {
  readonly only?: string;
  readonly teeth?: boolean;
  readonly deep?: boolean;
  readonly workers?: number;
}

const ROWS = join('litmus', 'advisories');
const PAGE = join('docs', 'advisories.md');
/** Beyond two preemptions: as far as is quick, or as far as ends within a minute. */
const FURTHER_SECONDS = { quick: 0.5, deep: 60 };
const VARIANT_SECONDS = { quick: 60, deep: 120 };
const CHANCE_SECONDS = { quick: 1.5, deep: 20 };
const TEETH_SECONDS = { quick: 20, deep: 120 };

/** 0: every row holds; 1: some do not; 64: there is no such row. */
export async function benchAdvisoriesCommand(
  flags: BenchAdvisoriesFlags,
  output: Output,
  signal: AbortSignal,
): Promise<number> {
  const began = performance.now();
  const folder = join(repositoryRoot, ROWS);
  const files = readdirSync(folder)
    .filter((name) => name.endsWith('.ts'))
    .toSorted()
    .map((name) => ({ path: join(folder, name), shownPath: `${ROWS}/${name}` }));
  const pace = flags.deep === true ? 'deep' : 'quick';
  const tell = (row: BenchRow): void => {
    for (const line of rowLines(row)) output.line(line);
  };
  const rows = await benchAdvisories(
    files,
    {
      workers: flags.workers ?? availableParallelism(),
      seconds: VARIANT_SECONDS[pace],
      furtherSeconds: FURTHER_SECONDS[pace],
      chanceSeconds: CHANCE_SECONDS[pace],
      teethSeconds: flags.teeth === true ? TEETH_SECONDS[pace] : 0,
      only: flags.only ?? null,
    },
    tell,
    signal,
  );
  if (rows.length === 0) {
    const remedy = `the rows are the files of ${ROWS}: name one as XSA-507`;
    throw new CommandError(`there is no row ${flags.only ?? ''}`, remedy, EXIT_USAGE);
  }
  const summary = summaryOf(rows, (performance.now() - began) / 1000);
  for (const line of summaryLines(summary)) output.line(line);
  if (flags.only === undefined) {
    writeFileSync(join(repositoryRoot, PAGE), advisoriesPage(rows, summary));
    output.line(`written to ${PAGE}`);
  }
  output.json({ summary, rows });
  return summary.holding === summary.rows ? EXIT_OK : EXIT_FAILED;
}
