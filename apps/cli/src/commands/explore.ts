// `hostloom explore LITMUS`: every variant of a litmus test through the schedules that were asked for, and for each what was broken
// by which shortest interleaving, or what was proved. Reads options and prints; the exploring is libs/explore.
import { availableParallelism } from 'node:os';
import { campaign } from '#explore/campaign';
import type { DifferentialReport } from '#explore/differential';
import type { FaultSweepReport } from '#explore/fault-sweep';
import type { FromExplorer, Job, TestFacts } from '#explore/jobs';
import { ExplorerFailed, runExplorer } from '#explore/session';
import type { Counterexample, SearchOptions, VariantReport } from '#explore/variant-search';
import { OperatorError } from '#formats/operator-error';
import { CommandError, EXIT_FAILED, EXIT_OK } from '../exit-codes.ts';
import type { Output } from '../terminal.ts';
import { teethCommand } from './explore-teeth.ts';
import { timedCommand } from './explore-timed.ts';
import { searchByWorkers } from './explore-worker.ts';
import { findLitmus, type LitmusFile } from './litmus-file.ts';

export interface ExploreFlags {
  readonly variant?: string[];
  readonly scheduler?: 'exhaustive' | 'random' | 'pct' | 'timed';
  readonly bound: number;
  readonly seeds?: number;
  readonly firstSeed: number;
  readonly depth: number;
  readonly workers?: number;
  readonly seconds: number;
  readonly reduction: boolean;
  readonly ownInvariants?: boolean;
  readonly faultSweep?: boolean;
  readonly differential?: boolean;
  readonly teeth?: boolean;
  readonly redis?: string;
  readonly shares: number;
}

const SEEDS = 10_000;
/** Steps of one stretch that a person is shown; the replay has all. */
const SHOWN_STEPS = 60;
const WIDTH = 118;

function searchOptions(flags: ExploreFlags, scheduler: SearchOptions['scheduler'] | undefined): SearchOptions {
  const { bound, firstSeed, depth, seconds } = flags;
  return {
    scheduler: scheduler ?? (flags.seeds === undefined ? 'exhaustive' : 'random'),
    bound,
    reduce: flags.reduction,
    firstSeed,
    seeds: flags.seeds ?? SEEDS,
    depth,
    states: flags.ownInvariants !== true,
    limits: { schedules: Number.MAX_SAFE_INTEGER, seconds },
  };
}

/** 0: every variant does what the test expects; 1: some do not; 2: no verdict; 64: the test or the options are wrong. */
export async function exploreCommand(
  name: string,
  flags: ExploreFlags,
  output: Output,
  signal: AbortSignal,
): Promise<number> {
  const file = findLitmus(name);
  try {
    if (flags.faultSweep === true) return await sweep(file, flags, output, signal);
    if (flags.differential === true) return await compare(file, flags, output, signal);
    if (flags.teeth === true) return await teethCommand(file, flags, output, signal);
    if (flags.scheduler === 'timed') return await timedCommand(file, flags.variant ?? null, output, signal);
    return await search(file, flags, flags.scheduler, output, signal);
  } catch (error) {
    throw asCommandError(error);
  }
}

/** What went wrong in an exploration, as a command says it. */
export function asCommandError(error: unknown): unknown {
  if (!(error instanceof ExplorerFailed)) return error;
  const { message, remedy, exitCode, problems } = error.mistake;
  return problems === undefined ? new CommandError(message, remedy, exitCode) : new OperatorError(problems);
}

async function search(
  file: LitmusFile,
  flags: ExploreFlags,
  scheduler: SearchOptions['scheduler'] | undefined,
  output: Output,
  signal: AbortSignal,
): Promise<number> {
  const options = searchOptions(flags, scheduler);
  if (flags.redis !== undefined) return await searchElsewhere(file, flags, flags.redis, options, output);
  const reports: VariantReport[] = [];
  let facts: TestFacts | null = null;
  const workers = options.scheduler === 'exhaustive' ? 1 : (flags.workers ?? availableParallelism());
  const job: Job = { is: 'search', variants: flags.variant ?? null, options };
  await campaign(
    { ...file, job },
    workers,
    (message) => {
      if (message.is === 'facts') {
        facts = message.facts;
        output.line(`${file.shownPath}: ${facts.title}`);
        output.line(`  ${facts.source}`);
      } else if (message.is === 'begins') output.progress(`exploring ${message.variant} …`);
      else if (message.is === 'variant') {
        reports.push(message.report);
        tellVariant(output, message.report, options);
      }
    },
    signal,
  );
  const failed = reports.filter(({ pass }) => !pass).length;
  output.line(`${reports.length - failed} of ${reports.length} variants do what is expected of them`);
  output.json({ litmus: file.shownPath, ...(facts ?? {}), options, variants: reports, pass: failed === 0 });
  return failed > 0 ? EXIT_FAILED : EXIT_OK;
}

/** By explore-workers, on whichever machines they are. */
async function searchElsewhere(
  file: LitmusFile,
  { variant, shares }: ExploreFlags,
  redis: string,
  options: SearchOptions,
  output: Output,
): Promise<number> {
  const variants = variant ?? null;
  const { title, source, reports } = await searchByWorkers({ file, variants, options, redis, shares }, output);
  output.line(`${file.shownPath}: ${title}`);
  output.line(`  ${source}`);
  for (const report of reports) tellVariant(output, report, options);
  const failed = reports.filter(({ pass }) => !pass).length;
  output.line(`${reports.length - failed} of ${reports.length} variants do what is expected of them`);
  output.json({ litmus: file.shownPath, title, source, options, variants: reports, pass: failed === 0 });
  return failed > 0 ? EXIT_FAILED : EXIT_OK;
}

function tellVariant(output: Output, report: VariantReport, options: SearchOptions): void {
  const { counterexample: found, expected, pass, problem } = report;
  const head = found === null ? 'holds' : `violates ${found.invariant}`;
  output.line('');
  output.line(`${pass ? '✓' : '✗'} ${report.variant}: ${head}${pass ? ', as expected' : ` – expected: ${expected}`}`);
  output.line(`    ${report.what}`);
  if (problem !== null) output.line(`    ${problem}`);
  output.line(`    ${found === null ? proof(report, options) : effort(report)}`);
  if (found !== null) tellCounterexample(output, found);
}

const count = (n: number, one: string, many = `${one}s`): string =>
  `${n.toLocaleString('en-US')} ${n === 1 ? one : many}`;

function proof(report: VariantReport, options: SearchOptions): string {
  const traces = count(report.distinct, 'distinct trace');
  const cases = report.cases > 1 ? ` in ${count(report.cases, 'case')}` : '';
  const size = `${traces}${cases} of up to ${count(report.longest, 'step')}, ${report.seconds.toFixed(2)} s`;
  const sort = options.states ? 'all invariants' : "the actors' own invariants";
  if (report.complete === null)
    return `no violation in ${count(report.schedules, 'random schedule')} (${size}; ${sort}): this is no proof`;
  if (report.complete < options.bound) {
    const upTo =
      report.complete < 0 ? 'nothing is proved' : `proved only up to ${count(report.complete, 'preemption')}`;
    return `no violation, but the time was over: ${upTo} (${size}; ${sort}); allow more with --seconds`;
  }
  const reduced = report.reduced ? ', one of each set of equivalent orders' : ', every order';
  return `proved up to ${count(report.complete, 'preemption')}: ${size}${reduced}; ${sort}`;
}

function effort(report: VariantReport): string {
  const others = Object.keys(report.broken).filter((name) => name !== report.counterexample?.invariant);
  const also = others.length === 0 ? '' : `; also broken: ${others.join(', ')}`;
  return `found by schedule ${report.first} of ${report.schedules}, ${report.seconds.toFixed(2)} s${also}`;
}

function tellCounterexample(output: Output, found: Counterexample): void {
  const { text, under, preemptions, steps, interleaving, replay } = found;
  if (under !== '') output.line(`    with ${under}`);
  output.line(`    shortest: ${count(preemptions, 'preemption')}, ${count(steps, 'step')}`);
  const width = Math.max(...interleaving.map(({ actor }) => actor.length));
  for (const { actor, steps: taken } of interleaving) {
    const cut = taken.length - SHOWN_STEPS;
    const shown =
      cut > 0 ? [...taken.slice(0, SHOWN_STEPS / 2), `… ${cut} more …`, ...taken.slice(-SHOWN_STEPS / 2)] : taken;
    const lines = wrap(shown, WIDTH - width - 10);
    for (const [i, line] of lines.entries()) output.line(`      ${(i === 0 ? actor : '').padEnd(width)}  ${line}`);
  }
  output.line(`      → ${text}`);
  output.line(`    hostloom replay ${replay}`);
}

function wrap(parts: readonly string[], width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const [i, part] of parts.entries()) {
    const piece = i < parts.length - 1 ? `${part}, ` : part;
    if (line !== '' && line.length + piece.length > width) {
      lines.push(line.trimEnd());
      line = '';
    }
    line += piece;
  }
  return [...lines, line];
}

async function sweep(file: LitmusFile, flags: ExploreFlags, output: Output, signal: AbortSignal): Promise<number> {
  const reports: FaultSweepReport[] = [];
  const job: Job = { is: 'fault-sweep', variants: flags.variant ?? null };
  const onMessage = (message: FromExplorer): void => {
    if (message.is === 'facts')
      output.line(`${file.shownPath}: ${message.facts.title}; every fallible step fails once`);
    else if (message.is === 'swept') {
      reports.push(message.report);
      tellSweep(output, message.report);
    }
  };
  await runExplorer({ ...file, job }, onMessage, signal);
  output.json({ litmus: file.shownPath, variants: reports });
  return reports.some(({ broken }) => broken.length > 0) ? EXIT_FAILED : EXIT_OK;
}

const SHOWN_BROKEN = 5;

function tellSweep(output: Output, { variant, points, broken, seconds }: FaultSweepReport): void {
  const failures = new Set(broken.map(({ failed }) => failed)).size;
  output.line(
    `${failures === 0 ? '✓' : '✗'} ${variant}: ${count(points, 'failure')} tried, ${failures} break something, ${seconds.toFixed(2)} s`,
  );
  for (const { step, invariant, text, replay } of broken.slice(0, SHOWN_BROKEN)) {
    output.line(`    ${step} fails → ${invariant}: ${text}`);
    output.line(`      hostloom replay ${replay}`);
  }
  if (broken.length > SHOWN_BROKEN) output.line(`    and ${broken.length - SHOWN_BROKEN} more`);
}

async function compare(file: LitmusFile, flags: ExploreFlags, output: Output, signal: AbortSignal): Promise<number> {
  const found: DifferentialReport[] = [];
  const job: Job = { is: 'differential', variants: flags.variant ?? null };
  const keep = (message: FromExplorer): void => {
    if (message.is === 'compared') found.push(message.report);
  };
  await runExplorer({ ...file, job }, keep, signal);
  output.line(`${file.shownPath}: each variant without preemption, under several settings`);
  for (const { variant, settings, differs } of found) {
    output.line(
      `${differs.length === 0 ? '✓' : '✗'} ${variant}: ${settings.join(', ')}: ${differs.length === 0 ? 'the same results' : 'results differ'}`,
    );
    for (const line of differs) output.line(`    ${line}`);
  }
  output.json({ litmus: file.shownPath, variants: found });
  return found.some(({ differs }) => differs.length > 0) ? EXIT_FAILED : EXIT_OK;
}
