// `hostloom run SCENARIO`: plays a scenario's twins, prints the verdict and where the report is. Exit status is the verdict's.
import { resolve } from 'node:path';
import { closestName, OperatorError } from '#formats/operator-error';
import type { Scenario } from '#formats/scenario';
import { loadScenario } from '#formats/scenario-file';
import { exitCodeOf, type RunResult, type TwinResult } from '#report/verdict';
import type { HostInstance } from '../launcher/host-instance.ts';
import { repositoryRoot } from '../repository.ts';
import { knownInvariants } from '../runner/invariant-names.ts';
import { runScenario, type ScenarioRun, shown } from '../runner/scenario-run.ts';
import type { Output } from '../terminal.ts';

const MARKS = { pass: '✓', fail: '✗', unknown: '?' } as const;
const NAME_WIDTH = 28;

export interface RunOptions {
  readonly twin?: string;
  readonly attempts?: number;
  readonly runsDir?: string;
  /** Leaves the last twin's host up until Ctrl-C. */
  readonly keep?: boolean;
}

/** Answers the exit status. */
export async function runCommand(
  file: string,
  options: RunOptions,
  output: Output,
  signal: AbortSignal,
): Promise<number> {
  const scenario = withAttempts(
    loadScenario(resolve(file), { root: repositoryRoot, invariants: knownInvariants }),
    options.attempts,
  );
  checkTwinName(scenario, options.twin);
  const tell = ({ result, path }: ScenarioRun): void => {
    const report = `${path}/report.html`;
    print(result, shown(report, process.cwd()), output);
    output.json({ ...result, exitCode: exitCodeOf(result.verdict), directory: path, report });
  };
  const run = await runScenario({
    scenario,
    twin: options.twin,
    runsDir: resolve(options.runsDir ?? 'runs'),
    root: process.cwd(),
    command: commandOf(file, options),
    signal,
    progress: (text) => output.progress(`${scenario.name} ${text}`),
    onTwin: (twin) => output.milestone(twinLine(twin)),
    onKept: options.keep
      ? async (host, written) => {
          tell(written);
          await keepUp(host, output, signal);
        }
      : null,
  });
  if (!options.keep) tell(run);
  return exitCodeOf(run.result.verdict);
}

/** Until Ctrl-C, which then is no interruption: the run is over. */
async function keepUp(host: HostInstance | null, output: Output, signal: AbortSignal): Promise<void> {
  if (!host) {
    output.milestone('no host is left to look at');
    return;
  }
  host.superviseToolstack((text) => output.milestone(text));
  output.milestone(`host ${host.hostId} (${host.plan.label}) stays up`);
  output.milestone('in another terminal: hostloom xl list, hostloom xl dmesg');
  output.milestone('Ctrl-C ends it');
  const interrupted = new Promise<void>((settle) => {
    signal.addEventListener('abort', () => settle(), { once: true });
    if (signal.aborted) settle();
  });
  const gone = host.gone.then(({ message }) => output.milestone(message));
  await Promise.race([interrupted, gone]);
}

/** `--attempts` replaces the scenario's number wherever the timeline used it. */
function withAttempts(scenario: Scenario, attempts: number | undefined): Scenario {
  if (attempts === undefined) return scenario;
  return {
    ...scenario,
    twins: scenario.twins.map((twin) => ({
      ...twin,
      attempts,
      timeline: twin.timeline.map((step) => ({
        ...step,
        ...(step.times === twin.attempts ? { times: attempts } : {}),
        ...(step.do === 'gpu-dma' && step.attempts === twin.attempts ? { attempts } : {}),
        ...(step.do === 'create-beside' && step.count === twin.attempts ? { count: attempts } : {}),
      })),
      expect: twin.expect.map((assertion) =>
        'atLeast' in assertion && assertion.atLeast === twin.attempts ? { ...assertion, atLeast: attempts } : assertion,
      ),
    })),
  };
}

function checkTwinName({ file, twins }: Scenario, name: string | undefined): void {
  if (name === undefined || twins.some((twin) => twin.name === name)) return;
  const names = twins.map((twin) => twin.name);
  const guess = closestName(name, names);
  const message = `the scenario has no twin \`${name}\`${guess ? ` (did you mean \`${guess}\`?)` : ''}`;
  throw new OperatorError([{ file, message, remedy: `twins: ${names.join(', ')}` }]);
}

function commandOf(file: string, { twin, attempts }: RunOptions): string {
  const parts = ['npx hostloom run', file, twin ? `--twin ${twin}` : '', attempts ? `--attempts ${attempts}` : ''];
  return parts.filter((part) => part !== '').join(' ');
}

function twinLine(twin: TwinResult): string {
  const violations = twin.violations.map(({ invariant, count }) => `${invariant} ×${count}`).join(', ');
  const seconds = (twin.durationMs / 1000).toFixed(1);
  const faults = twin.faultCount > 0 ? `, ${twin.faultCount} DMA faults` : '';
  const head = `${MARKS[twin.verdict]} ${twin.name.padEnd(NAME_WIDTH)} ${twin.kind.padEnd(5)} ${twin.verdict.padEnd(7)}`;
  return `${head} ${twin.attempts} attempts${faults}${violations ? `, violated: ${violations}` : ''} (${seconds} s)`;
}

function print(result: RunResult, report: string, output: Output): void {
  output.line(result.question);
  for (const twin of result.twins) {
    output.line(`  ${twinLine(twin)}`);
    if (twin.title) output.line(`      ${twin.title}`);
    for (const { ok, text, expected, found, evidence } of twin.assertions) {
      if (ok === true) continue;
      output.line(`      ${ok === 'unknown' ? '?' : '✗'} ${text}: expected ${expected}, found ${found}`);
      if (evidence) output.line(`          ${evidence.split('\n')[0]}`);
    }
  }
  output.line(`verdict: ${result.verdict} (${(result.durationMs / 1000).toFixed(1)} s)`);
  output.line(`report:  ${report}`);
}
