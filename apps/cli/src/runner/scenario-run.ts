// A whole scenario: its guests checked before anything starts, its twins one after the other, what compares twins, the files of
// the run. Owns that order and the run directory; a twin by itself is twin-run.ts.
import { readFile, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join, relative } from 'node:path';
import type { Assertion, Scenario, Twin } from '#formats/scenario';
import { formatSbdf } from '#model/frames/addresses';
import { RunDirectory } from '#report/run-directory';
import { type AssertionOutcome, judgeRun, judgeTwin, type RunResult, type TwinResult } from '#report/verdict';
import { makeDirectory } from '../directory.ts';
import { withDesigns } from '../explain/gpu-designs.ts';
import { HostGone, type HostInstance } from '../launcher/host-instance.ts';
import { assertionText } from './assertion-text.ts';
import { checkGuests } from './guest-checks.ts';
import { messagesOf } from './messages.ts';
import { traceOf } from './telling.ts';
import { runTwin, type TwinRun } from './twin-run.ts';
import { nowUs } from './twin-state.ts';

const MS = 1000;
const SPACE_US = 1_000_000;
const SIDE_BY_SIDE = 2;

export interface ScenarioRunOptions {
  readonly scenario: Scenario;
  /** Only this one, and those it is compared with. */
  readonly twin: string | undefined;
  readonly runsDir: string;
  /** Directory that shown paths are relative to. */
  readonly root: string;
  /** The command that repeats the run. */
  readonly command: string;
  readonly signal: AbortSignal;
  readonly progress: (text: string) => void;
  readonly onTwin: (result: TwinResult) => void;
  /**
   * The host of the last twin (of the one asked for, if one was) stays up, and goes when this settles, called when the run is
   * written; `host` is null if there is none.
   */
  readonly onKept: ((host: HostInstance | null, run: ScenarioRun) => Promise<void>) | null;
}

export interface ScenarioRun {
  readonly result: RunResult;
  /** The run's directory. */
  readonly path: string;
}

/** Throws OperatorError for what is wrong with the guests, or what the signal was aborted with. */
export async function runScenario(options: ScenarioRunOptions): Promise<ScenarioRun> {
  const { scenario } = options;
  checkGuests(scenario);
  const twins = chosenTwins(scenario, options.twin);
  const startedAt = new Date();
  makeDirectory(options.runsDir);
  const run = await RunDirectory.create(options.runsDir, scenario.name, startedAt);
  const done: (TwinRun | TwinResult)[] = [];
  try {
    await playTwins(options, run, twins, done);
    const runs = done.filter((twin) => 'state' in twin);
    const kept = runs.find((played) => played.kept !== null) ?? null;
    for (const { twin } of runs) if (twin !== kept?.twin) await addHistory(run, twin);
    const compared = compareTwins(
      twins,
      done.map((twin) => ('state' in twin ? twin.result : twin)),
    );
    const result = runResult(options, twins, withDesigns(twins, compared), startedAt);
    await writeFiles(run, runs, result);
    const written = { result, path: run.path };
    await options.onKept?.(kept?.kept ?? null, written);
    return written;
  } finally {
    await stopKept(run, done);
    if (done.length < twins.length && options.signal.aborted) await run.abandon();
    else await run.close();
  }
}

/** Only then its hypervisor has written its history to the end. */
async function stopKept(run: RunDirectory, done: readonly (TwinRun | TwinResult | undefined)[]): Promise<void> {
  for (const played of done) {
    if (!played || !('kept' in played) || !played.kept) continue;
    await played.kept.stop();
    await addHistory(run, played.twin);
  }
}

/** Each twin has a host of its own, so two can run side by side; not where a network card races the CPUs for the cores. */
async function playTwins(
  options: ScenarioRunOptions,
  run: RunDirectory,
  twins: readonly Twin[],
  done: (TwinRun | TwinResult)[],
): Promise<void> {
  const { signal, progress, onTwin } = options;
  const races = twins.some(({ dom0 }) => dom0.workload.some((workload) => workload.run === 'nic'));
  const keptTwin = twins.find(({ name }) => name === options.twin) ?? twins.at(-1);
  let next = 0;
  const play = async (): Promise<void> => {
    for (let index = next++; index < twins.length; index = next++) {
      signal.throwIfAborted();
      const twin = twins[index] as Twin; // index is in range
      const head = twins.length === 1 ? twin.name : `[${index + 1}/${twins.length}] ${twin.name}`;
      const keep = options.onKept !== null && twin === keptTwin;
      const played = await twinOrUnknown(options, run, twin, keep, (text) => progress(`${head}: ${text}`));
      done[index] = played;
      onTwin('state' in played ? played.result : played);
    }
  };
  const lanes = races ? 1 : Math.min(SIDE_BY_SIDE, availableParallelism(), twins.length);
  const ended = await Promise.allSettled(Array.from({ length: lanes }, play));
  for (const lane of ended) if (lane.status === 'rejected') throw lane.reason;
}

/** The twin asked for, and those its assertions compare it with. */
function chosenTwins({ twins }: Scenario, name: string | undefined): readonly Twin[] {
  if (name === undefined) return twins;
  const wanted = new Set([name]);
  for (const twin of twins) {
    if (!wanted.has(twin.name)) continue;
    for (const assertion of twin.expect) if (assertion.check === 'greater') wanted.add(assertion.thanTwin);
  }
  return twins.filter((twin) => wanted.has(twin.name));
}

/** A host that does not start, or falls over, leaves the question open. */
async function twinOrUnknown(
  { scenario, signal }: ScenarioRunOptions,
  run: RunDirectory,
  twin: Twin,
  keep: boolean,
  progress: (text: string) => void,
): Promise<TwinRun | TwinResult> {
  const startedUs = nowUs();
  try {
    return await runTwin({ scenario, twin, run, signal, progress, keep });
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof Error)) throw error;
    const text = error instanceof HostGone ? 'the host stays up' : 'the host starts';
    const assertions: AssertionOutcome[] = [{ text, expected: 'it does', found: error.message, ok: 'unknown' }];
    return emptyResult(twin, assertions, Math.round((nowUs() - startedUs) / MS));
  }
}

const emptyResult = (twin: Twin, assertions: readonly AssertionOutcome[], durationMs: number): TwinResult => ({
  name: twin.name,
  title: twin.title,
  kind: twin.kind,
  policies: { ...twin.policies, host: twin.host.name },
  attempts: 0,
  verdict: 'unknown',
  assertions,
  violations: [],
  faults: [],
  faultCount: 0,
  counters: {},
  explanation: [],
  locks: [],
  timeline: [],
  durationMs,
});

/** Judges what compares one twin with another, now that all have run. */
function compareTwins(twins: readonly Twin[], results: readonly TwinResult[]): TwinResult[] {
  return results.map((result, index) => {
    const expect = twins[index]?.expect ?? [];
    const pending = expect.filter((assertion) => assertion.check === 'greater');
    if (pending.length === 0) return result;
    const outcomes = new Map(
      pending.map((assertion) => [assertionText(assertion), compare(assertion, result, results)]),
    );
    const assertions = result.assertions.map((outcome) => outcomes.get(outcome.text) ?? outcome);
    return { ...result, assertions, verdict: judgeTwin(assertions) };
  });
}

function compare(
  { counter, thanTwin, factor, ...rest }: Extract<Assertion, { check: 'greater' }>,
  mine: TwinResult,
  results: readonly TwinResult[],
): AssertionOutcome {
  const text = assertionText({ counter, thanTwin, factor, ...rest });
  const other = results.find(({ name }) => name === thanTwin);
  const [here, there] = [mine.counters[counter], other?.counters[counter]];
  if (here === undefined || there === undefined) {
    return {
      text,
      expected: text,
      found: `twin ${here === undefined ? mine.name : thanTwin} has no figure`,
      ok: 'unknown',
    };
  }
  return { text, expected: `more than ${there * factor}`, found: `${here}`, ok: here > there * factor };
}

/** The hypervisor wrote the twin's history beside its logs; the run's is all of them, each record with its twin. */
async function addHistory(run: RunDirectory, twin: Twin): Promise<void> {
  const path = join(run.path, 'logs', twin.name, 'history.ndjson');
  const text = await readFile(path, 'utf8').catch(() => '');
  for (const line of text.split('\n')) {
    if (line !== '') run.appendHistory({ twin: twin.name, ...(JSON.parse(line) as Record<string, unknown>) }); // one object a line
  }
  await rm(path, { force: true });
}

async function writeFiles(run: RunDirectory, runs: readonly TwinRun[], result: RunResult): Promise<void> {
  const offsets = offsetsOf(runs);
  const dmesg = runs.map(({ twin, state }) => `# twin ${twin.name}\n${state.observer.console.join('\n')}\n`);
  const processes = Object.assign({}, ...runs.map(({ state }) => Object.fromEntries(state.names))) as Record<
    number,
    string
  >; // merged
  const dropped = runs.reduce((sum, { state }) => sum + state.observer.spansDropped, 0);
  await run.writeDmesg(dmesg.join('\n'));
  await run.writeLockProfile({
    rows: result.twins.flatMap(({ name, locks }) =>
      locks.map((row) => ({ ...row, name: result.twins.length === 1 ? row.name : `${row.name} [${name}]` })),
    ),
    profilingNs: runs.reduce((sum, { snapshot }) => sum + (snapshot?.profilingNs ?? 0), 0),
  });
  await run.writeMessages(
    runs.map(({ twin, state }, i) => ({ title: twin.name, messages: messagesOf(state, offsets[i] ?? 0) })),
  );
  await run.writeTrace(
    (function* () {
      for (const [i, { state }] of runs.entries()) yield* traceOf(state, offsets[i] ?? 0);
    })(),
    { processes, dropped },
  );
  await run.writeResult(result);
}

/** Twins stand one after the other on the time line, each with room for what happened before its first step. */
function offsetsOf(runs: readonly TwinRun[]): number[] {
  let at = 0;
  return runs.map(({ result, state }) => {
    const firstUs = state.observer.spans.reduce((first, { tsUs }) => Math.min(first, tsUs), state.startedUs);
    const offset = at + state.startedUs - firstUs;
    at = offset + result.durationMs * MS + SPACE_US;
    return offset;
  });
}

function runResult(
  { scenario, command }: ScenarioRunOptions,
  twins: readonly Twin[],
  results: readonly TwinResult[],
  startedAt: Date,
): RunResult {
  const hosts = new Map(twins.map(({ host }) => [host.name, host]));
  const [host] = hosts.values();
  const facts: Record<string, string> = {};
  for (const { name, file, source, devices, rmrrs, iommuUnits } of hosts.values()) {
    const units = iommuUnits.map(({ id, caps }) => `unit ${id}: ${['4K', ...caps.superpages].join(' ')}`).join('; ');
    facts[name] = `${source} (${file}; ${devices.length} devices; ${units || 'no IOMMU'}; RMRRs ${
      rmrrs
        .map((r) => `${r.start.toString(16)}-${r.end.toString(16)} for ${r.devices.map(formatSbdf).join(' ')}`)
        .join(', ') || 'none'
    })`;
  }
  return {
    scenario: scenario.name,
    question: scenario.question,
    startedAt: startedAt.toISOString(),
    host: { name: [...hosts.keys()].join(', ') || (host?.name ?? ''), facts },
    verdict: judgeRun(results),
    twins: results,
    durationMs: Date.now() - startedAt.getTime(),
    command,
  };
}

/** A path as shown to people who stand in `root`. */
export const shown = (path: string, root: string): string => {
  const short = relative(root, path);
  return short.startsWith('..') ? path : short;
};
