// The steps about devices' reserved memory and windows: a controller uses its region, a guest or its device model gets in its way, a
// driver uses a BAR. Each counts its attempts and judges by the host's own entries what became of them.
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import { workloadId } from '../launcher/guest-kernel-options.ts';
import { hexOf } from './assertion-text.ts';
import type { ControllerSeen } from './observer.ts';
import { nameOf, type StepContext, StepFailed, type StepOf, untilRunning, xl } from './step-context.ts';
import { stepText } from './step-text.ts';
import { hasCrashed, type TwinState } from './twin-state.ts';

const TIMEOUT_MS = 30_000;
const LOOK_MS = 100;
const PAGE = 4096;
/** Frames of a region whose entries are looked at. */
const LOOKS_MAX = 32;

/** Frames of the device's first region, as far as they are looked at. */
function framesOf(state: TwinState, device: Sbdf): number[] {
  const region = state.twin.host.rmrrs.find(({ devices }) => devices.includes(device));
  if (!region) return [];
  const first = Math.floor(region.start / PAGE);
  const pages = Math.floor(region.end / PAGE) + 1 - first;
  return Array.from({ length: Math.min(pages, LOOKS_MAX) }, (_, i) => first + i);
}

/** Firmware put its data into the host frame of the same number; DMA that goes anywhere else does not reach it. */
export async function judgeReserved(
  step: { readonly guest: string; readonly device: Sbdf },
  state: TwinState,
  made: number,
): Promise<void> {
  const looked = framesOf(state, step.device);
  const peeks = await Promise.all(looked.map((gfn) => state.peek(step.guest, gfn)));
  const astray = peeks.flatMap((peek, i) => {
    const gfn = looked[i] ?? -1;
    return peek.iommu === 'absent' || peek.iommu === 'off' || peek.iommuMfn === gfn ? [] : [{ gfn, peek }];
  });
  const [first] = astray;
  if (!first) return;
  const { gfn, peek } = first;
  // A device uses all frames of its region alike.
  const count = Math.round((made * astray.length) / looked.length);
  const text =
    `${count} DMA writes of ${formatSbdf(step.device)} to its reserved memory from gfn ${gfn.toString(16)} on reached mfn ` +
    `${peek.iommuMfn.toString(16)} of ${step.guest}, a ${peek.p2mType} page, instead of the firmware's frame`;
  state.violation('reservedDmaReachesTheFirmwareFrame', text, count, `p2m ${peek.p2mType}, mfn ${hexOf(peek.mfn)}`);
}

const figures = (seen: ControllerSeen | undefined) => ({
  asked: seen?.asked ?? 0,
  completed: seen?.completed ?? 0,
  faults: seen?.faults ?? 0,
  foreign: seen?.foreign ?? 0,
  unseen: seen?.unseen ?? 0,
});

/** The controller writes, the CPU looks. */
export async function reservedIo(step: StepOf<'reserved-io'>, context: StepContext): Promise<string | null> {
  const { state, signal, progress } = context;
  const { device, attempts } = step;
  const domid = await state.domidOf(step.guest);
  await untilRunning(step, domid, context);
  const id = workloadId({ run: 'usb', device, rate: 0 });
  const seen = () => figures(state.observer.guest(domid)?.controllers.get(id));
  const before = seen();
  await state.host.command(domid, { do: 'reserved-io', device, attempts });
  const hasEnded = (): boolean => state.observer.guest(domid)?.ended !== null;
  const done = await state.observer.until(
    () => seen().asked - before.asked >= attempts || hasEnded(),
    TIMEOUT_MS,
    signal,
  );
  const after = seen();
  const made = after.asked - before.asked;
  state.attempts += made;
  progress(`${made} frames written by ${formatSbdf(device)}`);
  await judgeController(step, state, {
    completed: after.completed - before.completed,
    faults: after.faults - before.faults,
    foreign: after.foreign - before.foreign,
    unseen: after.unseen - before.unseen,
  });
  if (done) return null;
  throw new StepFailed(step.line, `${stepText(step)}: ${made} made after ${TIMEOUT_MS / 1000} s`, true);
}

type Figures = Omit<ReturnType<typeof figures>, 'asked'>;

async function judgeController(step: StepOf<'reserved-io'>, state: TwinState, seen: Figures): Promise<void> {
  const name = `${formatSbdf(step.device)} of ${step.guest}`;
  if (seen.completed > 0) await judgeReserved(step, state, seen.completed);
  if (seen.faults > 0) {
    const text = `${seen.faults} DMA writes of ${name} to its reserved memory faulted: nothing is mapped for them there`;
    state.violation('reservedDmaReachesTheFirmwareFrame', text, seen.faults);
  }
  if (seen.unseen > 0) {
    const text = `${seen.unseen} frames that ${name} had written held something else for the CPU at the same address`;
    state.violation('cpuAndDeviceAgreeOnGfn', text, seen.unseen);
  }
  if (seen.foreign > 0) {
    const text = `${seen.foreign} frames of the reserved memory of ${name} held what another had written`;
    state.violation('noWriteLost', text, seen.foreign);
  }
}

/** Until all tries are made, or the domain has crashed at one of them: that one counts. */
export async function enterReserved(step: StepOf<'enter-reserved'>, context: StepContext): Promise<string | null> {
  const { state, signal, progress } = context;
  const { device, how, attempts } = step;
  const domid = await state.domidOf(step.guest);
  await untilRunning(step, domid, context);
  const id = `enter-${state.steps.length}`;
  const seen = () => state.observer.guest(domid)?.intrusions.get(id);
  await state.host.command(domid, { do: 'enter-reserved', id, device, how, attempts });
  const deadline = performance.now() + TIMEOUT_MS;
  let crashed = false;
  while (!crashed && (seen()?.attempts ?? 0) < attempts && performance.now() < deadline) {
    await state.observer.until(() => (seen()?.attempts ?? 0) >= attempts, LOOK_MS, signal);
    const info = await state.domain(step.guest);
    crashed = !info || hasCrashed(info);
  }
  const made = (seen()?.attempts ?? 0) + (crashed ? 1 : 0);
  state.attempts += made;
  progress(`${made} tries, ${seen()?.entered ?? 0} went in${crashed ? ', the guest has crashed' : ''}`);
  if (crashed || made >= attempts) return null;
  throw new StepFailed(step.line, `${stepText(step)}: ${made} tries made after ${TIMEOUT_MS / 1000} s`, true);
}

export async function barIo(step: StepOf<'bar-io'>, context: StepContext): Promise<string | null> {
  const { state, signal, progress } = context;
  const { device, bar, attempts } = step;
  const domid = await state.domidOf(step.guest);
  await untilRunning(step, domid, context);
  const id = `bar-${state.steps.length}`;
  const seen = () => state.observer.guest(domid)?.windowUses.get(id);
  await state.host.command(domid, { do: 'bar-io', id, device, bar, attempts });
  if (!(await state.observer.until(() => seen() !== undefined, TIMEOUT_MS, signal))) {
    throw new StepFailed(step.line, `${stepText(step)}: no answer after ${TIMEOUT_MS / 1000} s`, true);
  }
  const { answered = 0, gfn = null } = seen() ?? {};
  state.attempts += attempts;
  const where = gfn === null ? 'which firmware gave no address' : `at ${hexOf(gfn * PAGE)}`;
  progress(`${answered} of ${attempts} accesses to BAR ${bar} answered, ${where}`);
  if (answered < attempts) {
    const text = `${attempts - answered} of ${attempts} accesses of ${step.guest} to BAR ${bar} of ${formatSbdf(device)}, ${where}, were answered by nobody`;
    state.violation('everyBarHasAPlace', text, attempts - answered);
  }
  return null;
}

/** QEMU's hypercalls, made by the toolstack in dom0's name. */
export function deviceModel({ guest, device, how }: StepOf<'device-model'>, state: TwinState): Promise<string | null> {
  const what = 'page' in how ? ['page', hexOf(how.page)] : ['bar', String(how.bar)];
  return xl(state, 'device-model', [nameOf(guest), formatSbdf(device), ...what]);
}
