// What a guest is told to be and to do: the specification it boots from, the commands a scenario gives it at run time, and
// the events it reports. Plain data throughout (it travels in boot jobs and messages). How any of it is done is elsewhere.
//
// Times are the guest's own milliseconds: whoever drives a kernel multiplies real time by the run's timeScale.
import type { MemoryMapEntry } from '../hypercall/calls.ts';
import type { ActivityOrder, ActivityPhase, ActivitySpec, SharingPolicies } from './activity/spec.ts';
import type { GpuFigures, GpuOrder, MediatorWorkloadSpec, VgpuWorkloadSpec } from './shared-gpu/spec.ts';

export interface BalloonSpec {
  /** false: a guest without the driver; it never reaches for its target. */
  readonly enabled: boolean;
  /** Extent order of what it gives up: scattered 4K pages (every OS today), or whole 2M runs. */
  readonly order: '4k' | '2m';
  /** Linux waits in late init until it is down to its target; other systems start their drivers at once. */
  readonly waitAtBoot: boolean;
  /** Zero a page before giving it up: the store populates a PoD page first. */
  readonly scrub: boolean;
  /** Attempts that may come up short before it gives up (0 = no limit, as kernels before the limit). */
  readonly maxRetryCount: number;
  /** Room for hot-added memory above RAM; 0 = a kernel without memory hotplug. */
  readonly hotplugMb: number;
  readonly bootTimeoutMs: number;
}

export const defaultBalloon: BalloonSpec = {
  enabled: true,
  order: '4k',
  waitAtBoot: true,
  scrub: false,
  maxRetryCount: 4,
  hotplugMb: 0,
  bootTimeoutMs: 180_000,
};

/**
 * Which frames a DMA goes to: a frame and those that follow it; buffers no CPU has touched; buffers touched just before; or
 * the device's own reserved region, which graphics firmware uses whatever the guest's map says is there.
 */
export type DmaPlace = number | 'untouched' | 'touched' | 'rmrr';

interface WorkloadBase {
  readonly id: string;
  /** Pins it to a vCPU; absent: the kernel spreads its work. */
  readonly vcpu?: number;
}

/** Stores, re-reads and compares its own frames. */
export interface MemoryWorkloadSpec extends WorkloadBase {
  readonly kind: 'memory';
  readonly mb: number;
  /** 0 = as fast as the hypervisor answers. */
  readonly framesPerSecond: number;
  readonly verify: boolean;
  /** panic: a system does not survive foreign data in its memory; count: it is reported and overwritten. */
  readonly onCorruption: 'panic' | 'count';
}

/** A graphics driver: DMA bursts into buffers that its kernel believes are RAM. */
export interface GpuWorkloadSpec extends WorkloadBase {
  readonly kind: 'gpu';
  readonly device: number;
  /** Taken when the driver loads, and touched by no CPU: from this frame up; null: from the end of low RAM down. */
  readonly bufferGfn: number | null;
  readonly bufferFrames: number;
  /** Command buffers submitted without being asked, of this many frames each; more come by command. */
  readonly bursts: number;
  readonly burstFrames: number;
  /** 0 = without a pause. */
  readonly framesPerSecond: number;
  /** crash: after `resetsBeforeCrash` hangs the display driver gives up (a blue screen); count: it resets for ever. */
  readonly onFault: 'crash' | 'count';
  readonly resetsBeforeCrash: number;
}

/** A network card that receives almost all the time into a ring of buffers. */
export interface NicWorkloadSpec extends WorkloadBase {
  readonly kind: 'nic';
  readonly device: number;
  readonly ringFrames: number;
  /** 0 = as fast as the device can. */
  readonly framesPerSecond: number;
  /** Passes over half the ring in one submitted job. */
  readonly passes: number;
  /** One completed half ring in this many is compared. */
  readonly verifyEvery: number;
}

/**
 * A USB controller whose firmware emulates a keyboard: the controller writes into its reserved memory from boot on, and a CPU
 * reads there what it wrote.
 */
export interface UsbWorkloadSpec extends WorkloadBase {
  readonly kind: 'usb';
  readonly device: number;
  /** Frames it writes by itself; 0 = only when asked. */
  readonly framesPerSecond: number;
}

/** Something that takes several vCPUs and begins when it is told to (activity/). Part of the boot: it cannot be loaded later. */
export interface ActivityWorkloadSpec extends WorkloadBase {
  readonly kind: 'activity';
  readonly spec: ActivitySpec;
}

export type WorkloadSpec =
  | MemoryWorkloadSpec
  | GpuWorkloadSpec
  | NicWorkloadSpec
  | UsbWorkloadSpec
  | VgpuWorkloadSpec
  | MediatorWorkloadSpec
  | ActivityWorkloadSpec;

/** A device that was passed through, as the kernel finds it on its bus: its memory windows where firmware left them. */
export interface GuestPciDevice {
  /** The host's device. */
  readonly device: number;
  /** `gfn` null: firmware found no room. */
  readonly windows: readonly { readonly bar: number; readonly gfn: number | null; readonly pages: number }[];
}

export interface GuestSpec {
  readonly domid: number;
  readonly name: string;
  /** The control domain's balloon has no offset between its target and static-max. */
  readonly control: boolean;
  readonly vcpus: number;
  /** Of everything the kernel chooses "at random". */
  readonly seed: number;
  /** What firmware left behind; null: the kernel asks the hypervisor (PVH). */
  readonly e820: readonly MemoryMapEntry[] | null;
  /** xenstore memory/target and memory/static-max at boot; null: no xenstore. */
  readonly targetKb: number | null;
  readonly staticMaxKb: number | null;
  /** What a booting kernel touches: its image, page array and early allocations. */
  readonly bootTouchMb: number;
  /**
   * After uptime free pages are scattered; a fresh kernel hands out the top of RAM first. A kernel whose balloon preserves
   * superpages also keeps its small allocations together, whatever is said here.
   */
  readonly allocation: 'scattered' | 'top-down';
  readonly balloon: BalloonSpec;
  readonly foreignMapPlace: 'ballooned-hole' | 'top-of-ram';
  /** Absent: as kernels do it today. */
  readonly sharing?: SharingPolicies;
  readonly workloads: readonly WorkloadSpec[];
  /** Absent: nothing was passed through. */
  readonly pci?: readonly GuestPciDevice[];
  readonly timeScale: number;
}

/** Frames of another domain to be mapped, written with `tag` and unmapped again, `batch` at a time. */
export interface ForeignCopy {
  readonly id: string;
  readonly domid: number;
  readonly gfn: number;
  readonly pages: number;
  readonly batch: number;
  readonly tag: number;
}

/** How a kernel that does not mind its memory map gets at a reserved frame: populates it, gives it up, moves a page there. */
export type Intrusion = 'populate' | 'give-up' | 'move';

export type GuestCommand =
  | { readonly do: 'target'; readonly kib: number }
  | { readonly do: 'start'; readonly workload: WorkloadSpec }
  | { readonly do: 'stop'; readonly id: string }
  /** One command buffer of `attempts` single-frame writes by the driver of that device. */
  | { readonly do: 'gpu-dma'; readonly device: number; readonly attempts: number; readonly place: DmaPlace }
  | ({ readonly do: 'foreign-copy' } & ForeignCopy)
  /** So many frames written by the controller and looked at by the CPU. */
  | { readonly do: 'reserved-io'; readonly device: number; readonly attempts: number }
  /** So many tries at the reserved frames of a device. */
  | {
      readonly do: 'enter-reserved';
      readonly id: string;
      readonly device: number;
      readonly how: Intrusion;
      readonly attempts: number;
    }
  /** So many stores into a window of a device. */
  | {
      readonly do: 'bar-io';
      readonly id: string;
      readonly device: number;
      readonly bar: number;
      readonly attempts: number;
    }
  /** Something to be done with a GPU that dom0 shares. */
  | ({ readonly do: 'gpu' } & GpuOrder)
  | { readonly do: 'activity'; readonly id: string; readonly order: ActivityOrder }
  | { readonly do: 'shutdown'; readonly reason: number };

export type BalloonState = 'done' | 'wait' | 'eagain' | 'ecanceled';

/** Everything a kernel reports, by name. */
export interface GuestEvents {
  e820: { entries: readonly MemoryMapEntry[]; ramPages: number };
  bootDone: { ramPages: number; touched: number; faulted: number };
  running: { currentPages: number; targetPages: number };
  balloon: { state: BalloonState; currentPages: number; targetPages: number; ballooned: number };
  /** The driver is down (or up) to its target for the first time: what control/feature-balloon says of it is now true. */
  balloonReady: Record<never, never>;
  workload: { id: string; state: 'started' | 'stopped' | 'failed'; text: string };
  memoryRound: { id: string; frames: number; rounds: number };
  /** One command buffer is done; `first` is its first frame. */
  gpuBurst: {
    id: string;
    first: number;
    frames: number;
    completed: number;
    faults: number;
    firstFaultDfn: number;
    reason: number;
  };
  nicJob: { id: string; completed: number; faults: number; firstFaultDfn: number; reason: number };
  /** A controller's driver is loaded: frames of its reserved region, those that hold firmware's tag, those where nothing is. */
  reservedRegion: { id: string; startPfn: number; pages: number; firmware: number; missing: number };
  /**
   * Frames the controller wrote. `foreign` had been written by somebody else since; `unseen` did not show the CPU what the
   * device wrote.
   */
  reservedIo: {
    id: string;
    asked: boolean;
    frames: number;
    completed: number;
    faults: number;
    foreign: number;
    unseen: number;
    firstWrong: number;
    found: number;
  };
  /** So far, and for the last time when `attempts` are all made. */
  enteredReserved: {
    id: string;
    how: Intrusion;
    attempts: number;
    wanted: number;
    entered: number;
    firstError: number;
  };
  /** An order about a shared GPU: so far, and at its end. */
  gpuActivity: GpuFigures;
  barIo: { id: string; device: number; bar: number; gfn: number | null; attempts: number; answered: number };
  foreignCopyDone: { id: string; domid: number; mapped: number; failed: number; firstError: number };
  /** A verified frame did not hold what was last written: the invariant noWriteLost. */
  noWriteLost: { id: string; gfn: number; expected: number; found: number; bad: number };
  /** A load or store of a frame the kernel believes is RAM found nothing there. */
  ramMissing: { id: string; faulted: number };
  /** Of an activity: how far it is, with what it has counted so far; `text` says why it failed. */
  activity: {
    id: string;
    phase: ActivityPhase;
    turn: number;
    attempts: number;
    figures: Readonly<Record<string, number>>;
    text: string;
  };
  /** An invariant was found violated by the kernel itself, `count` times since the last report of it. */
  violation: {
    id: string;
    invariant: string;
    text: string;
    count: number;
    evidence: Readonly<Record<string, number | string>>;
  };
  panic: { text: string };
  shutdown: { reason: number };
}

export type GuestEventName = keyof GuestEvents;

export interface GuestSink {
  event<N extends GuestEventName>(name: N, data: GuestEvents[N]): void;
}

/** vCPU that runs the balloon thread and everything that needs ballooned pages (Linux serialises them by balloon_mutex). */
export const BALLOON_VCPU = 0;

/** The vCPU a workload runs on: NICs on the last one, the others spread over those that do not balloon. */
export function vcpuOf(spec: Pick<GuestSpec, 'vcpus'>, workload: WorkloadSpec): number {
  if (workload.vcpu !== undefined) return workload.vcpu % spec.vcpus;
  if (spec.vcpus === 1) return 0;
  if (workload.kind === 'nic') return spec.vcpus - 1;
  // The mediator's sleeps in Xen: the balloon's must not.
  if (workload.kind === 'mediator') return spec.vcpus - 1;
  // Controllers share their firmware's memory: one CPU knows what was written there last.
  if (workload.kind === 'usb') return 1;
  let hash = 0;
  for (let i = 0; i < workload.id.length; i++) hash = (hash * 31 + workload.id.charCodeAt(i)) >>> 0;
  return 1 + (hash % (spec.vcpus - 1));
}
