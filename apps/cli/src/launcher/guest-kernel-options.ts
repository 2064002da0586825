// From a scenario's workloads to what a guest's kernel is told: drivers with their buffers, memory loops, the balloon. Owns the
// ids of workloads (by which they are stopped) and the numbers a scenario leaves out; the kernels themselves are the model's.
import { isActivity } from '#formats/activity-forms';
import type { Rate, Workload, WorkloadName } from '#formats/scenario';
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import type { WorkloadSpec } from '#model/guest/guest-spec';
import type { KernelOptions } from '#wire/xl-create';

const FRAMES_PER_MB = 256;
/** Frames of one command buffer that the driver submits by itself. */
const BURST_FRAMES = 16;
/** Passes of a network card's job over its half of the ring: longer than the driver needs to look at the other half. */
const NIC_PASSES = 16;
const NIC_VERIFY_EVERY = 4;
/** Buffers of a driver that a timeline uses without a word about it. */
const IMPLIED_BUFFER_FRAMES = 16;

export interface KernelNeeds {
  /** Command buffers that the timeline asks of the driver of each device: it survives all but the last that hangs. */
  readonly gpuBursts: ReadonlyMap<number, number>;
}

/** A guest has at most one workload of a kind for each device. */
export function workloadId(workload: Workload): string {
  return 'device' in workload ? `${workload.run}-${formatSbdf(workload.device)}` : workload.run;
}

/** Ids of the workloads of one kind: what `stop` means. */
export const idsOf = (workloads: readonly Workload[], name: WorkloadName): string[] =>
  workloads.filter(({ run }) => run === name).map(workloadId);

const framesPerSecond = (rate: Rate, framesPerUnit = 1): number => (rate === 'max' ? 0 : rate * framesPerUnit);

/** null: not a task of the kernel, but how it boots. */
export function workloadSpec(workload: Workload, needs: KernelNeeds): WorkloadSpec | null {
  const id = workloadId(workload);
  if (isActivity(workload)) return { id, kind: 'activity', spec: workload };
  switch (workload.run) {
    case 'boot-touch':
    case 'balloon':
      return null;
    case 'memory':
      return {
        id,
        kind: 'memory',
        mb: workload.mb,
        framesPerSecond: framesPerSecond(workload.rate, FRAMES_PER_MB),
        verify: workload.verify,
        onCorruption: 'panic',
      };
    case 'gpu':
      return {
        id,
        kind: 'gpu',
        device: workload.device,
        bufferGfn: workload.bufferGfn,
        bufferFrames: workload.bufferFrames,
        bursts: workload.bursts,
        burstFrames: BURST_FRAMES,
        framesPerSecond: framesPerSecond(workload.rate),
        onFault: 'crash',
        resetsBeforeCrash: Math.max(0, (needs.gpuBursts.get(workload.device) ?? 1) - 1),
      };
    case 'nic':
      return {
        id,
        kind: 'nic',
        device: workload.device,
        ringFrames: workload.ringFrames,
        framesPerSecond: framesPerSecond(workload.rate),
        passes: NIC_PASSES,
        verifyEvery: NIC_VERIFY_EVERY,
      };
    case 'usb':
      return { id, kind: 'usb', device: workload.device, framesPerSecond: workload.rate };
    case 'vgpu':
      return {
        id,
        kind: 'vgpu',
        device: workload.device,
        firstGfn: workload.firstGfn,
        pagesGfn: workload.pagesGfn,
        frames: workload.frames,
      };
    case 'mediator':
      return { id, kind: 'mediator', device: workload.device };
    default:
      return workload satisfies never;
  }
}

/** The driver of a device that `gpu-dma` uses is loaded even where the guest's workload does not name it. */
export function withImpliedDrivers(workloads: readonly Workload[], devices: Iterable<Sbdf>): Workload[] {
  const loaded = new Set(workloads.flatMap((workload) => (workload.run === 'gpu' ? [workload.device] : [])));
  const missing = [...new Set(devices)].filter((device) => !loaded.has(device));
  const implied = missing.map(
    (device): Workload => ({
      run: 'gpu',
      device,
      bufferGfn: null,
      bufferFrames: IMPLIED_BUFFER_FRAMES,
      bursts: 0,
      rate: 'max',
    }),
  );
  // Drivers load first: they take their buffers before programs fill the memory.
  return [...implied, ...workloads];
}

/** Each mediator sleeps in Xen on a vCPU of its own, from the last one down: the first is the balloon's. */
export function withMediatorsPinned(workloads: readonly WorkloadSpec[], vcpus: number): WorkloadSpec[] {
  let next = vcpus;
  return workloads.map((spec) => (spec.kind === 'mediator' ? { ...spec, vcpu: --next } : spec));
}

export function kernelOptions(workloads: readonly Workload[], needs: KernelNeeds): KernelOptions {
  const touch = workloads.find((workload) => workload.run === 'boot-touch');
  return {
    ...(touch ? { bootTouchMb: touch.mb } : {}),
    balloon: { enabled: workloads.some(({ run }) => run === 'balloon') },
    workloads: workloads.map((workload) => workloadSpec(workload, needs)).filter((spec) => spec !== null),
  };
}
