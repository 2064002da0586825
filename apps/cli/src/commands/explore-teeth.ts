// `hostloom explore LITMUS --teeth`: which steps of the variants that hold could be missing, and nobody would notice.
import { runTeeth } from '#explore/advisory-bench';
import type { TeethReport } from '#explore/teeth';
import { EXIT_FAILED, EXIT_OK } from '../exit-codes.ts';
import type { Output } from '../terminal.ts';
import type { LitmusFile } from './litmus-file.ts';

/** Of the mutants of a variant, in percent. */
const WANTED = 80;

/** 0: of each variant enough mutants are noticed; 1: of some not. */
export async function teethCommand(
  file: LitmusFile,
  { variant, seconds }: { readonly variant?: string[]; readonly seconds: number },
  output: Output,
  signal: AbortSignal,
): Promise<number> {
  output.line(`${file.shownPath}: one effective step is left out at a time; does an invariant notice?`);
  const reports = await runTeeth(file, variant ?? null, seconds, signal, ({ actor, what }) =>
    output.progress(`without ${actor}: ${what} …`),
  );
  for (const report of reports) tell(output, report);
  output.json({ litmus: file.shownPath, variants: reports });
  return reports.every(bites) ? EXIT_OK : EXIT_FAILED;
}

const bites = ({ mutants, caught }: TeethReport): boolean => caught.length * 100 >= mutants * WANTED;

function tell(output: Output, report: TeethReport): void {
  const { variant, mutants, caught, survivors, redundant, untried, seconds } = report;
  const left = untried === 0 ? '' : `, ${untried} not tried for want of time (--seconds)`;
  const same = redundant === 0 ? '' : `; ${redundant} more make no difference`;
  output.line('');
  output.line(
    `${bites(report) ? '✓' : '✗'} ${variant}: ${caught.length} of ${mutants} are noticed${same}${left}, ${seconds.toFixed(1)} s`,
  );
  for (const { actor, what, invariant } of caught) output.line(`    ${actor} without ${what} → ${invariant}`);
  for (const { actor, what, complete, replay } of survivors) {
    output.line(
      `    ${actor} without ${what} → nobody notices, up to ${complete} preemption${complete === 1 ? '' : 's'}`,
    );
    output.line(`      hostloom replay ${replay}`);
  }
}
