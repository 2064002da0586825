// One twin from nothing to its result: a host of its own, the timeline, the look at what is left, the end of the host, the
// verdict. Owns that order. Whatever stops the timeline is an assertion of its own that does not hold, or is unknown.
import { join } from 'node:path';
import type { Scenario, Step, Twin } from '#formats/scenario';
import type { RunDirectory } from '#report/run-directory';
import { type AssertionOutcome, judgeTwin, MAX_FAULTS_KEPT, type TwinResult } from '#report/verdict';
import { explain } from '../explain/explain.ts';
import { HostGone, HostInstance } from '../launcher/host-instance.ts';
import { planOfTwin } from '../launcher/host-plan.ts';
import { evaluate, isLive, violationCounts } from './evaluate.ts';
import { Observer } from './observer.ts';
import { judgeFaults } from './run-judgements.ts';
import { type Snapshot, takeSnapshot } from './snapshot.ts';
import { StepFailed } from './step-context.ts';
import { stepText } from './step-text.ts';
import { countPodTouches, isAttempted, runStep, touchesPod, untilDue } from './steps.ts';
import { describeFault, eventsOf, violationsOf } from './telling.ts';
import { nowUs, TwinState } from './twin-state.ts';

const SETTLE_MS = 2_000;
const US_PER_MS = 1000;

/** Steps that count their attempts. */
const COUNTED: ReadonlySet<Step['do']> = new Set([
  'gpu-dma',
  'create-beside',
  'reserved-io',
  'enter-reserved',
  'bar-io',
  'finish',
]);

export interface TwinRunOptions {
  readonly scenario: Scenario;
  readonly twin: Twin;
  readonly run: RunDirectory;
  readonly signal: AbortSignal;
  readonly progress: (text: string) => void;
  /** The host is left up; whoever gets the result stops it. */
  readonly keep: boolean;
}

/** A twin's result, and what the files of the run are written from. */
export interface TwinRun {
  readonly twin: Twin;
  readonly result: TwinResult;
  readonly state: TwinState;
  readonly snapshot: Snapshot | null;
  /** Still up, where that was asked for. */
  readonly kept: HostInstance | null;
}

/** A host that cannot even be started: the twin is unknown, with the reason. */
export async function runTwin(options: TwinRunOptions): Promise<TwinRun> {
  const { scenario, twin, run, signal, progress, keep } = options;
  const logDir = join(run.path, 'logs', twin.name);
  const plan = planOfTwin(scenario.name, twin);
  const host = await HostInstance.start({ plan, logDir, onPhase: progress }, signal);
  const state = new TwinState(twin, host, new Observer(host));
  let kept = false;
  const aborter = new AbortController();
  const abort = (): void => aborter.abort(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  void host.gone.then((reason) => aborter.abort(reason));
  try {
    const steps = await playTimeline(state, aborter.signal, progress);
    signal.throwIfAborted();
    progress('looking at what is left');
    const { live, snapshot } = await lookAtTheEnd(state);
    if (!keep) await host.stopProcesses();
    const complete = await state.observer.drain();
    const assertions = [...steps, ...(await allAssertions(state, live))];
    const result = resultOf(state, snapshot, assertions, complete);
    kept = keep && !host.isGone;
    return { twin, state, snapshot, result, kept: kept ? host : null };
  } finally {
    signal.removeEventListener('abort', abort);
    if (!kept) await host.stopProcesses();
    await state.close();
    if (!kept) await host.stop();
  }
}

/** Outcomes of what went otherwise than the scenario says, and of the number of attempts; empty if all went well. */
async function playTimeline(
  state: TwinState,
  signal: AbortSignal,
  progress: (text: string) => void,
): Promise<AssertionOutcome[]> {
  const { timeline, attempts } = state.twin;
  for (const step of timeline) {
    try {
      await untilDue(step, state, signal);
      progress(stepText(step));
      await playStep(step, state, signal, progress);
    } catch (error) {
      return [stepOutcome(step, error)];
    }
  }
  await countPodTouches(state);
  const counts = timeline.some((step) => COUNTED.has(step.do) || isAttempted(step) || touchesPod(step, timeline));
  if (!counts) return [];
  const enough = state.attempts >= attempts;
  return [
    {
      text: `the run makes ${attempts} attempts`,
      expected: `${attempts} or more`,
      found: `${state.attempts}`,
      ok: enough || 'unknown',
    },
  ];
}

async function playStep(
  step: Step,
  state: TwinState,
  signal: AbortSignal,
  progress: (text: string) => void,
): Promise<void> {
  const startedUs = nowUs();
  const before = await counterValues(state);
  try {
    await runStep(step, { state, signal, progress });
    state.note(
      { who: 'operator', what: stepText(step), ...(step.expectError ? { detail: 'refused, as expected' } : {}) },
      startedUs,
    );
  } catch (error) {
    state.note({ who: 'operator', what: stepText(step), detail: message(error), tone: 'bad' }, startedUs);
    throw error;
  } finally {
    const after = await counterValues(state);
    if (before && after)
      state.steps.push({ text: stepText(step), line: step.line, before, after, us: nowUs() - startedUs });
  }
}

/** null while there is no hypervisor to ask. */
async function counterValues(state: TwinState): Promise<Readonly<Record<string, number>> | null> {
  if (state.hypervisorKilled || state.host.isGone) return null;
  return state.counters().then(
    ({ counters }) => counters,
    () => null,
  );
}

const message = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function stepOutcome(step: Step, error: unknown): AssertionOutcome {
  const text = `the timeline goes through (line ${step.line}: ${stepText(step)})`;
  const failed = error instanceof StepFailed && !error.unknown;
  if (!failed && !(error instanceof StepFailed) && !(error instanceof HostGone) && !(error instanceof Error))
    throw error;
  return { text, expected: 'it does', found: message(error), ok: failed ? false : 'unknown' };
}

interface End {
  /** Outcomes of the live assertions, by their place in `expect`. */
  readonly live: ReadonlyMap<number, AssertionOutcome>;
  readonly snapshot: Snapshot | null;
}

/** While the host is alive: the state invariants at a safepoint, live assertions, figures. */
async function lookAtTheEnd(state: TwinState): Promise<End> {
  const { twin } = state;
  const live = new Map<number, AssertionOutcome>();
  const alive = !state.hypervisorKilled && !state.host.isGone;
  if (alive) {
    await settle(state);
    await state
      .checkInvariants()
      .catch((error: unknown) => state.note({ who: 'Xen', what: message(error), tone: 'bad' }));
    await judgeFaults(state);
  }
  for (const [index, assertion] of twin.expect.entries()) {
    if (isLive(assertion)) live.set(index, await evaluate(assertion, state));
  }
  return { live, snapshot: alive ? await takeSnapshot(state).catch(() => null) : null };
}

/** Faults that the hypervisor has counted are on their way here. */
async function settle(state: TwinState): Promise<void> {
  const counters = await counterValues(state);
  const wanted = counters?.['dma.faults'] ?? 0;
  await state.observer.until(() => state.observer.faultCount >= wanted, SETTLE_MS, AbortSignal.timeout(SETTLE_MS * 2));
}

function allAssertions(state: TwinState, live: ReadonlyMap<number, AssertionOutcome>): Promise<AssertionOutcome[]> {
  return Promise.all(state.twin.expect.map((assertion, index) => live.get(index) ?? evaluate(assertion, state)));
}

function resultOf(
  state: TwinState,
  snapshot: Snapshot | null,
  assertions: readonly AssertionOutcome[],
  complete: boolean,
): TwinResult {
  const { twin, observer, startedUs } = state;
  const focus = snapshot?.focus;
  const e820 = focus?.e820 ?? observer.guests().find(({ domid, e820 }) => domid !== 0 && e820 !== null)?.e820;
  if (!complete) state.note({ who: 'runner', what: 'some of what the host reported did not arrive', tone: 'bad' });
  return {
    name: twin.name,
    title: twin.title,
    kind: twin.kind,
    policies: { ...twin.policies, host: twin.host.name },
    attempts: state.attempts,
    verdict: judgeTwin(assertions),
    assertions,
    violations: violationsOf(state, violationCounts(state)),
    faults: observer.faults.slice(0, MAX_FAULTS_KEPT).map((fault) => describeFault(fault, startedUs)),
    faultCount: snapshot?.counters['dma.faults'] ?? observer.faultCount,
    counters: { ...snapshot?.counters },
    explanation: explain(state, snapshot),
    ...(e820 ? { e820 } : {}),
    ...(focus ? { memoryMap: focus.memoryMap, iommuMap: focus.iommuMap } : {}),
    locks: snapshot?.locks ?? [],
    timeline: eventsOf(state),
    durationMs: Math.round((nowUs() - startedUs) / US_PER_MS),
  };
}
