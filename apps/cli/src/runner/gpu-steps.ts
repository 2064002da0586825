// The steps about GPUs that dom0 shares: a guest's virtual GPU comes or goes, its driver works, dom0 moves bus frames of its own. Each
// counts its attempts and judges what the drivers found: pages that the CPU did not find as the GPU wrote them, and accesses
// that the IOMMU refused although the guest's table names the page.
import { hostConfig } from '#formats/host-config';
import type { Step } from '#formats/scenario';
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import type { GpuAct, GpuFigures } from '#model/guest/shared-gpu/spec';
import { errnoName } from '#model/hypercall/errno';
import { busBase } from '#model/iommu/bus-space';
import { hexOf } from './assertion-text.ts';
import { type StepContext, StepFailed, type StepOf, untilRunning } from './step-context.ts';
import { DOM0, type TwinState } from './twin-state.ts';

const TIMEOUT_MS = 60_000;
const PAGE = 4096;
/** Parts of graphics memory that a guest is given, MiB: as GVT-g's smallest, or a quarter where there is less. */
const LOW_MB = 64;
const HIGH_MB = 64;
const PAGES_PER_MB = 256;

/** The order, carried out by that domain's kernel: its last report. */
async function carryOut(
  step: Step & { readonly device: Sbdf },
  domid: number,
  act: GpuAct,
  context: StepContext,
): Promise<GpuFigures> {
  const { state, signal } = context;
  await untilRunning(step, domid, context);
  const id = `gpu-${state.steps.length}-${state.gpuOrders++}`;
  const seen = (): GpuFigures | undefined => state.observer.guest(domid)?.gpuOrders.get(id);
  const ended = (): boolean => state.observer.guest(domid)?.ended !== null;
  await state.host.command(domid, { do: 'gpu', id, device: step.device, act });
  await state.observer.until(() => seen()?.over === true || ended(), TIMEOUT_MS, signal);
  const figures = seen();
  if (figures?.over) return figures;
  const made = figures?.made ?? 0;
  throw new StepFailed(step.line, `${made} attempts made after ${TIMEOUT_MS / 1000} s`, true);
}

export async function vgpu(step: StepOf<'vgpu'>, context: StepContext): Promise<string | null> {
  const { state, progress } = context;
  const guest = step.act === 'detach' ? await lastDomid(step.guest, state) : await state.domidOf(step.guest);
  const figures =
    step.act === 'attach' || step.act === 'detach'
      ? await carryOut(step, await state.domidOf(DOM0), ownership(step, guest, state), context)
      : await carryOut(step, guest, { what: step.act, attempts: step.attempts }, context);
  if (step.attempts > 1) {
    state.attempts += figures.made;
    progress(`${figures.made} attempts, ${figures.lost} pages without what the GPU wrote`);
  }
  judge(step, figures, state);
  return figures.rc === 0 ? null : `${formatSbdf(step.device)}: ${errnoName(figures.rc)}`;
}

/** A dead guest's frames stay with the shadows that name them until its virtual GPU is taken away. */
async function lastDomid(guest: string, state: TwinState): Promise<number> {
  const last = [...state.names].findLast(([, name]) => name === guest)?.[0];
  return last ?? state.domidOf(guest);
}

function ownership(step: StepOf<'vgpu'>, domid: number, { twin }: TwinState): GpuAct {
  if (step.act === 'detach') return { what: 'detach', domid };
  const { mediatedGpus = [] } = hostConfig(twin.host, twin.policies);
  const gpu = mediatedGpus.find(({ sbdf }) => sbdf === step.device);
  const [low, high] = gpu ? [gpu.aperturePages, gpu.gmPages - gpu.aperturePages] : [0, 0];
  const share = (pages: number, mb: number): number => Math.min(mb * PAGES_PER_MB, Math.floor(pages / 4));
  return { what: 'attach', domid, mappable: share(low, LOW_MB), unmappable: share(high, HIGH_MB) };
}

function judge(step: StepOf<'vgpu'>, { lost, firstLost, busFaults, firstFaultDfn }: GpuFigures, state: TwinState) {
  const device = formatSbdf(step.device);
  if (lost > 0) {
    const text = `${step.guest} did not find in ${lost} pages what ${device} had written for it, first at gfn ${firstLost.toString(16)}`;
    state.violation('noWriteLost', text, lost);
  }
  // With a function of its own a guest's faults are its own affair.
  if (busFaults === 0 || !state.twin.host.sharedGpus.some((gpu) => gpu.device === step.device)) return;
  const text = `${device}, working for ${step.guest}, was refused bus address ${hexOf(firstFaultDfn * PAGE)}, which the guest's table names`;
  state.violation('shadowedPageStaysMapped', text, busFaults);
}

export async function busFrames(step: StepOf<'bus-frames'>, context: StepContext): Promise<string | null> {
  const { state, progress } = context;
  const firstBfn = busBase(hostConfig(state.twin.host, state.twin.policies));
  const act: GpuAct = { what: step.act, attempts: step.attempts, firstBfn, running: step.card === 'running' };
  const figures = await carryOut(step, await state.domidOf(DOM0), act, context);
  state.attempts += figures.made;
  if (figures.lost > 0) {
    const text = `dom0 did not find in ${figures.lost} pages what ${formatSbdf(step.device)} had written there, first at gfn ${figures.firstLost.toString(16)}`;
    state.violation('noWriteLost', text, figures.lost);
  }
  progress(`${figures.made} bus frames, ${figures.completed} writes of the device`);
  return figures.rc === 0 ? null : `${formatSbdf(step.device)}: ${errnoName(figures.rc)}`;
}
