// `hostloom explore LITMUS --scheduler timed`: each variant once, in virtual time. The same figures on every machine.
import { runExplorer } from '#explore/session';
import type { TimedReport } from '#explore/timed';
import { EXIT_OK } from '../exit-codes.ts';
import type { Output } from '../terminal.ts';
import type { LitmusFile } from './litmus-file.ts';

/** Kinds of steps that are shown. */
const SHOWN = 8;

export async function timedCommand(
  file: LitmusFile,
  variants: readonly string[] | null,
  output: Output,
  signal: AbortSignal,
): Promise<number> {
  const reports: TimedReport[] = [];
  await runExplorer(
    { ...file, job: { is: 'timed', variants } },
    (message) => {
      if (message.is === 'facts') output.line(`${file.shownPath}: ${message.facts.title}; in virtual nanoseconds`);
      else if (message.is === 'timed') {
        reports.push(message.report);
        tell(output, message.report);
      }
    },
    signal,
  );
  output.line('');
  output.line('the cost of each kind of step, and where it is from: docs/timed-costs.md');
  output.json({ litmus: file.shownPath, variants: reports });
  return EXIT_OK;
}

const number = (n: number): string => n.toLocaleString('en-US');

function tell(output: Output, { variant, what, actors, costs, findings }: TimedReport): void {
  output.line('');
  output.line(`${variant}: ${what}`);
  const width = Math.max(...actors.map(({ name }) => name.length));
  for (const { name, steps, ns, waitedNs } of actors) {
    const waited = waitedNs === 0 ? '' : `, ${number(waitedNs)} of them waiting`;
    output.line(`    ${name.padEnd(width)}  ${number(ns)} ns${waited}; ${number(steps)} steps`);
  }
  const parts = costs
    .slice(0, SHOWN)
    .map(({ kind, count, nsEach, ns }) => `${kind} ${count} × ${nsEach} = ${number(ns)}`);
  output.line(`    ${parts.join(', ')}${costs.length > SHOWN ? ', …' : ''}`);
  for (const { invariant, text } of findings) output.line(`    breaks ${invariant}: ${text}`);
}
