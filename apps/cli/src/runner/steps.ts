// The steps of a timeline, one function each: what it asks of the toolstack, of a guest's kernel or of the host, and when it is
// done. A step that had to fail and did not, or the other way round, ends the timeline. Nothing is judged here.

import { xlConfigText } from '#formats/guest-text';
import type { ScenarioGuest, Step, XlValue } from '#formats/scenario';
import { formatSbdf } from '#model/frames/addresses';
import type { DmaPlace } from '#model/guest/guest-spec';
import { encodeCreate } from '#wire/xl-create';
import {
  idsOf,
  type KernelNeeds,
  kernelOptions,
  withImpliedDrivers,
  workloadSpec,
} from '../launcher/guest-kernel-options.ts';
import { beginActivity, finishActivities } from './activity-steps.ts';
import { evaluate } from './evaluate.ts';
import { busFrames, vgpu } from './gpu-steps.ts';
import type { GuestSeen } from './observer.ts';
import { barIo, deviceModel, enterReserved, judgeReserved, reservedIo } from './reserved-steps.ts';
import { nameOf, type StepContext, StepFailed, type StepOf, untilRunning, xl } from './step-context.ts';
import { stepText } from './step-text.ts';
import { DOM0, nowUs, type TwinState } from './twin-state.ts';

/** Transactions of one command buffer: fewer than the faults after which a device loses bus mastering. */
const BURST_FRAMES = 8;
const BURST_TIMEOUT_MS = 30_000;
const POLL_MS = 25;

/** How many command buffers the timeline asks of each device. */
export function kernelNeeds(timeline: readonly Step[]): KernelNeeds {
  const gpuBursts = new Map<number, number>();
  for (const step of timeline) {
    if (step.do !== 'gpu-dma') continue;
    gpuBursts.set(
      step.device,
      (gpuBursts.get(step.device) ?? 0) + Math.ceil(step.attempts / burstFrames(step)) * step.times,
    );
  }
  return { gpuBursts };
}

/** A step whose repetitions are the scenario's attempts: refused again and again. */
export const isAttempted = (step: Step): boolean => step.times > 1 && step.expectError !== null;

/** A memory workload in a guest whose PoD entries the timeline then waits for: each frame it touches first is an attempt. */
export const touchesPod = (step: Step, timeline: readonly Step[]): boolean =>
  step.do === 'start' &&
  step.workload.run === 'memory' &&
  timeline.some(
    (other) => other.do === 'wait-for' && other.condition.check === 'pod' && other.condition.guest === step.guest,
  );

/** Touches of the host's CPUs that trapped and were populated; a superpage takes one. */
async function podTouches(state: TwinState): Promise<number> {
  const { counters } = await state.counters();
  return (counters['pod.populate4k'] ?? 0) + (counters['pod.populate2m'] ?? 0);
}

/** What was touched since is the run's attempts. */
export async function countPodTouches(state: TwinState): Promise<void> {
  const before = state.podTouchesBefore;
  if (before === null) return;
  state.podTouchesBefore = null;
  state.attempts += (await podTouches(state)) - before;
}

/** Runs a step as often as it says. Throws StepFailed, or what the signal was aborted with. */
export async function runStep(step: Step, context: StepContext): Promise<void> {
  const { state } = context;
  for (let turn = 0; turn < step.times; turn++) {
    context.signal.throwIfAborted();
    const problem = await runOnce(step, turn, context);
    if (isAttempted(step)) state.attempts++;
    if (problem === null && step.expectError !== null) {
      throw new StepFailed(step.line, `${stepText(step)} succeeded, but had to fail with /${step.expectError}/`);
    }
    if (problem !== null && (step.expectError === null || !new RegExp(step.expectError, 'mu').test(problem))) {
      const wanted = step.expectError === null ? '' : ` (expected /${step.expectError}/)`;
      throw new StepFailed(step.line, `${stepText(step)}: ${problem}${wanted}`);
    }
  }
}

/** null = it succeeded, else what was said. */
async function runOnce(step: Step, turn: number, context: StepContext): Promise<string | null> {
  const { state } = context;
  switch (step.do) {
    case 'create':
      return create(step, state);
    case 'destroy':
    case 'reboot':
      return xl(state, step.do, [nameOf(step.guest)]);
    case 'set-target':
      return xl(state, 'set-target', [nameOf(step.guest), nameOf(step.target)]);
    case 'begin':
      return beginActivity(step, context);
    case 'finish':
      return finishActivities(step, context);
    case 'mem-set':
    case 'mem-max':
      return xl(state, step.do, [nameOf(step.guest), `${step.mb}m`]);
    case 'pci-assignable-add':
    case 'pci-assignable-remove':
      return xl(state, step.do, [formatSbdf(step.device)]);
    case 'pci-attach': {
      const policy = step.policy === null ? '' : `,rdm_policy=${step.policy}`;
      return xl(state, step.do, [nameOf(step.guest), `${formatSbdf(step.device)}${policy}`]);
    }
    case 'pci-detach':
      return xl(state, step.do, [nameOf(step.guest), formatSbdf(step.device)]);
    case 'squeeze-swap': {
      const [shrink, grow] = turn % 2 === 0 ? [step.shrink, step.grow] : [step.grow, step.shrink];
      return xl(state, 'squeeze-swap', [nameOf(shrink), nameOf(grow), String(step.mb)]);
    }
    case 'start':
      return start(step, context);
    case 'stop':
      return stop(step, context);
    case 'gpu-dma':
      return gpuDma(step, context);
    case 'reserved-io':
      return reservedIo(step, context);
    case 'enter-reserved':
      return enterReserved(step, context);
    case 'bar-io':
      return barIo(step, context);
    case 'device-model':
      return deviceModel(step, state);
    case 'vgpu':
      return vgpu(step, context);
    case 'bus-frames':
      return busFrames(step, context);
    case 'wait-for':
      return waitFor(step, context);
    case 'create-beside':
      return createBeside(step, context);
    case 'kill':
      return kill(step, state);
    case 'check-invariants':
      await state.checkInvariants();
      return null;
    default:
      return step satisfies never;
  }
}

function guestOf(state: TwinState, name: string): ScenarioGuest {
  const guest = state.twin.guests.find((candidate) => candidate.name === name);
  if (!guest) throw new Error(`the scenario has no guest ${name}`); // its loader checked
  return guest;
}

function createArguments(state: TwinState, name: string, set: Readonly<Record<string, XlValue>>): string[] {
  const guest = guestOf(state, name);
  const { timeline } = state.twin;
  const used = timeline.flatMap((step) => (step.do === 'gpu-dma' && step.guest === name ? [step.device] : []));
  const kernel = kernelOptions(withImpliedDrivers(guest.workload, used), kernelNeeds(timeline));
  return encodeCreate({ source: guest.config.file, text: xlConfigText(guest, set), kernel, settings: [] });
}

async function create(step: StepOf<'create'>, state: TwinState): Promise<string | null> {
  const problem = await xl(state, 'create', createArguments(state, step.guest, step.set));
  if (problem === null) await state.domains(); // learns the new number
  return problem;
}

async function start(step: StepOf<'start'>, { state, signal }: StepContext): Promise<string | null> {
  const domid = await state.domidOf(step.guest);
  const workload = workloadSpec(step.workload, kernelNeeds(state.twin.timeline));
  if (!workload) return `${step.workload.run} is part of a guest's boot: write it under the guest's \`workload\``;
  await untilRunning(step, domid, { state, signal });
  if (touchesPod(step, state.twin.timeline)) state.podTouchesBefore ??= await podTouches(state);
  await state.host.command(domid, { do: 'start', workload });
  return null;
}

async function stop(step: StepOf<'stop'>, { state }: StepContext): Promise<string | null> {
  const domid = await state.domidOf(step.guest);
  const started = state.twin.timeline.flatMap((other) =>
    other.do === 'start' && other.guest === step.guest ? [other.workload] : [],
  );
  const own = step.guest === DOM0 ? state.twin.dom0.workload : guestOf(state, step.guest).workload;
  for (const id of new Set(idsOf([...own, ...started], step.workload)))
    await state.host.command(domid, { do: 'stop', id });
  if (step.workload === 'memory') await countPodTouches(state);
  return null;
}

/**
 * DMA that may fault goes in separate command buffers, so that the driver resets its device between faults and every attempt is
 * really made. Reserved memory and touched frames do not fault: one buffer, before the guest can notice and stop.
 */
const burstFrames = (step: StepOf<'gpu-dma'>): number =>
  step.gfn === 'rmrr' || step.gfn === 'touched' ? step.attempts : BURST_FRAMES;

async function gpuDma(step: StepOf<'gpu-dma'>, context: StepContext): Promise<string | null> {
  const { state, signal, progress } = context;
  const domid = await state.domidOf(step.guest);
  await untilRunning(step, domid, context);
  const seen = (): GuestSeen | null => state.observer.guest(domid);
  const [bursts, frames] = [seen()?.gpuBursts ?? 0, seen()?.gpuFrames ?? 0];
  const hasEnded = (): boolean => seen()?.panic !== null || seen()?.ended !== null;
  const size = burstFrames(step);
  let sent = 0;
  for (; sent * size < step.attempts && !hasEnded(); sent++) {
    signal.throwIfAborted();
    const attempts = Math.min(size, step.attempts - sent * size);
    const place: DmaPlace = typeof step.gfn === 'number' ? step.gfn + sent * size : step.gfn;
    await state.host.command(domid, { do: 'gpu-dma', device: step.device, attempts, place }).catch((error: unknown) => {
      if (!hasEnded()) throw error; // a guest that ends meanwhile takes no more commands
    });
  }
  const over = (): boolean => (seen()?.gpuBursts ?? 0) - bursts >= sent || hasEnded();
  const done = await state.observer.until(over, BURST_TIMEOUT_MS, signal);
  const made = (seen()?.gpuFrames ?? 0) - frames;
  state.attempts += made;
  progress(`${made} DMA attempts`);
  if (step.gfn === 'rmrr') await judgeReserved(step, state, made);
  if (done) return null;
  throw new StepFailed(step.line, `${stepText(step)}: ${made} attempts made after ${BURST_TIMEOUT_MS / 1000} s`, true);
}

async function waitFor(step: StepOf<'wait-for'>, { state, signal }: StepContext): Promise<string | null> {
  const deadline = performance.now() + step.timeoutUs / 1000;
  for (;;) {
    signal.throwIfAborted();
    const outcome = await evaluate(step.condition, state);
    if (outcome.ok === true) return null;
    if (performance.now() > deadline) {
      const text = `${stepText(step)}: not so after ${step.timeoutUs / 1e6} s; found ${outcome.found}`;
      throw new StepFailed(step.line, text, true);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** Small guests, built one after the other: each time dom0's kernel maps the guest's frames to copy an image into them. */
async function createBeside(step: StepOf<'create-beside'>, context: StepContext): Promise<string | null> {
  const { state, signal, progress } = context;
  await untilRunning(step, await state.domidOf(DOM0), context);
  const before = await foreignMappings(state);
  for (let n = 1; n <= step.count; n++) {
    signal.throwIfAborted();
    const name = `beside-${n}`;
    const text = `name = "${name}"\ntype = "hvm"\nmemory = ${step.memoryMb}\nvcpus = 1\non_crash = "preserve"\n`;
    const kernel = { bootTouchMb: 1, place: false, balloon: { enabled: false } };
    const created = await quietly(state, 'create', encodeCreate({ source: name, text, kernel, settings: [] }));
    if (created !== null) return `guest ${n} of ${step.count}: ${created}`;
    const destroyed = await quietly(state, 'destroy', [name]);
    if (destroyed !== null) return `guest ${n} of ${step.count}: ${destroyed}`;
    if (n % 20 === 0) progress(`${n} of ${step.count} guests built beside dom0`);
  }
  // Every page that dom0 maps in place of one of its own, under its card's DMA, is a chance to go wrong.
  state.attempts += (await foreignMappings(state)) - before;
  return null;
}

const foreignMappings = async (state: TwinState): Promise<number> =>
  (await state.counters()).counters['foreign.mapped'] ?? 0;

/** A verb that is one of hundreds: only its failure is recorded. */
async function quietly(state: TwinState, verb: string, args: readonly string[]): Promise<string | null> {
  const reply = await state.host.xl(verb, args);
  if (reply.exitCode === 0) return null;
  state.verbs.push({ ...reply, verb, tsUs: nowUs() - state.startedUs });
  return reply.stderr.trim() || `xl ${verb} ended with status ${reply.exitCode}`;
}

async function kill(step: StepOf<'kill'>, state: TwinState): Promise<string | null> {
  if (step.what !== 'guest-agent') {
    if (step.what === 'hypervisor') state.hypervisorKilled = true;
    state.host.kill(step.what);
    return null;
  }
  const domid = await state.domidOf(step.guest);
  const pid = state.observer.guest(domid)?.agentPid ?? 0;
  if (pid <= 0) return `${step.guest} has no guest agent`;
  process.kill(pid, 'SIGKILL');
  return null;
}

/** Until the scenario's own time has come to `atUs`. */
export async function untilDue(step: Step, state: TwinState, signal: AbortSignal): Promise<void> {
  if (step.atUs === null) return;
  const due = state.startedUs + step.atUs / state.twin.timeScale;
  const ms = (due - nowUs()) / 1000;
  if (ms <= 0) return;
  await new Promise<void>((resolve, reject) => {
    const abort = (): void => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', abort);
      resolve();
    }, ms);
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort, { once: true });
  });
}
