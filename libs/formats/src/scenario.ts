// What a scenario is once it is read: the contract between the files operators write (scenario-file.ts) and whatever runs
// them. Plain data; durations are microseconds (`atUs` of the scenario's own time, timeScale not yet applied), addresses bytes,
// sizes MiB unless the name says otherwise, regular expressions JavaScript's with the flags `mu`. `line` is the line of the
// scenario file an item came from.
import type { Sbdf } from '#model/frames/addresses';
import type { ActivityName, ActivitySpec } from '#model/guest/activity/spec';
import type { Intrusion } from '#model/guest/guest-spec';
import type { BusAct, VgpuAct } from '#model/guest/shared-gpu/spec';
import type { ErrnoName } from '#model/hypercall/errno';
import type { CounterName } from '#model/shared-memory/counters';
import type { FaultPlan } from '#model/shared-memory/fault-plan';
import type { HostDescription, RegionType } from './host-file.ts';
import type { Policies } from './policies.ts';

export interface Scenario {
  readonly file: string;
  /** The file's name without directory and extension. */
  readonly name: string;
  readonly question: string;
  /** In the file's order; a scenario without twins has one, `plain`. */
  readonly twins: readonly Twin[];
}

export type TwinKind = 'buggy' | 'fixed' | 'plain';

/** One run: everything merged, nothing left to look up. */
export interface Twin {
  readonly line: number;
  readonly name: string;
  readonly kind: TwinKind;
  readonly title: string;
  readonly host: HostDescription;
  readonly dom0: { readonly memoryMb: number; readonly vcpus: number; readonly workload: readonly Workload[] };
  readonly policies: Policies;
  /** How many times faster than real time policy timers run. */
  readonly timeScale: number;
  readonly attempts: number;
  readonly guests: readonly ScenarioGuest[];
  readonly timeline: readonly Step[];
  readonly faults: FaultPlan;
  readonly expect: readonly Assertion[];
}

export interface ScenarioGuest {
  readonly line: number;
  /** Replaces the xl.cfg's `name`. */
  readonly name: string;
  readonly config: GuestText;
  /** xl.cfg keys set on top of the file. */
  readonly set: Readonly<Record<string, XlValue>>;
  /** What the guest's kernel does, in this order, from its boot on. */
  readonly workload: readonly Workload[];
}

export type XlValue = string | number | readonly string[];

/** An xl.cfg and where it stands: `firstLine` is the line of `file` on which the text begins. */
export interface GuestText {
  readonly file: string;
  readonly firstLine: number;
  readonly text: string;
}

export type Rate = number | 'max';

export type Workload =
  /** The CPU touches the first `mb` of RAM once, as a booting kernel does. */
  | { readonly run: 'boot-touch'; readonly mb: number }
  /** The balloon driver follows memory/target. */
  | { readonly run: 'balloon' }
  /** Writes and (with `verify`) reads back `mb` of RAM by tag, `rate` MiB a second. */
  | { readonly run: 'memory'; readonly mb: number; readonly rate: Rate; readonly verify: boolean }
  /**
   * Loads the driver, which takes `bufferFrames` of RAM for DMA (from `bufferGfn`, or where its allocator puts them) that no
   * CPU touches; then submits `bursts` bursts to it, `rate` frames a second.
   */
  | {
      readonly run: 'gpu';
      readonly device: Sbdf;
      readonly bufferGfn: number | null;
      readonly bufferFrames: number;
      readonly bursts: number;
      readonly rate: Rate;
    }
  /** DMA to and from `ringFrames` frames spread evenly over RAM, almost all the time, `rate` frames a second. */
  | { readonly run: 'nic'; readonly device: Sbdf; readonly ringFrames: number; readonly rate: Rate }
  /** Firmware's keyboard emulation: the controller writes into its reserved memory, `rate` frames a second (0: only when asked). */
  | { readonly run: 'usb'; readonly device: Sbdf; readonly rate: number }
  /**
   * A driver on a shared GPU, or on a function of it: tables from `firstGfn` up, then twice `frames` pages, or those of another
   * driver at `pagesGfn`. What it does the timeline orders.
   */
  | {
      readonly run: 'vgpu';
      readonly device: Sbdf;
      readonly firstGfn: number;
      readonly pagesGfn: number | null;
      readonly frames: number;
    }
  /** dom0's: the mediator of that GPU, on dom0's last vCPU that has none. */
  | { readonly run: 'mediator'; readonly device: Sbdf }
  /** Something that takes several vCPUs and begins when the timeline says so; part of the guest's boot. */
  | ActivitySpec;

export type WorkloadName = Workload['run'];

interface StepCommon {
  readonly line: number;
  /** Not before this moment of the run; null = as soon as the step before has ended. Steps never overlap. */
  readonly atUs: number | null;
  /** Regular expression: the step must fail with such a message. Null: it must succeed. */
  readonly expectError: string | null;
  /** How often the step is made, one after the other. */
  readonly times: number;
}

/** A guest's name, or `dom0`. */
type GuestName = string;

type StepAction =
  | { readonly do: 'create'; readonly guest: GuestName; readonly set: Readonly<Record<string, XlValue>> }
  | { readonly do: 'destroy'; readonly guest: GuestName }
  | { readonly do: 'reboot'; readonly guest: GuestName }
  /** Tells an activity of the guest to begin, with the guests of `peers`. `attempts` 0: it goes on until it is told to end. */
  | {
      readonly do: 'begin';
      readonly guest: GuestName;
      readonly run: ActivityName;
      readonly peers: readonly GuestName[];
      readonly attempts: number;
    }
  /** Waits until they have made their attempts, then ends them in this order; `keep`: they go on. */
  | {
      readonly do: 'finish';
      readonly keep: boolean;
      readonly activities: readonly { readonly guest: GuestName; readonly run: ActivityName }[];
    }
  /** Makes a guest the other's device model as far as Xen is concerned (XEN_DOMCTL_set_target): it may act on it. */
  | { readonly do: 'set-target'; readonly guest: GuestName; readonly target: GuestName }
  | { readonly do: 'mem-set'; readonly guest: GuestName; readonly mb: number }
  | { readonly do: 'mem-max'; readonly guest: GuestName; readonly mb: number }
  | { readonly do: 'pci-assignable-add'; readonly device: Sbdf }
  | { readonly do: 'pci-assignable-remove'; readonly device: Sbdf }
  /** `policy`: rdm_policy= of the device; null: not given, which libxl takes as strict. */
  | {
      readonly do: 'pci-attach';
      readonly guest: GuestName;
      readonly device: Sbdf;
      readonly policy: 'strict' | 'relaxed' | null;
    }
  | { readonly do: 'pci-detach'; readonly guest: GuestName; readonly device: Sbdf }
  /** Moves `mb` from one guest to the other by ballooning. `times` swaps alternate: the 2nd moves it back, the 3rd again. */
  | { readonly do: 'squeeze-swap'; readonly shrink: GuestName; readonly grow: GuestName; readonly mb: number }
  | { readonly do: 'start'; readonly guest: GuestName; readonly workload: Workload }
  | { readonly do: 'stop'; readonly guest: GuestName; readonly workload: WorkloadName }
  /**
   * The guest's driver submits `attempts` DMA writes of one frame each, in one command buffer: to `gfn` and the frames that
   * follow it, or to frames of the driver's choice that a CPU has or has not touched. `rmrr`: the device itself uses its first
   * reserved region, as graphics firmware does, whatever the guest's map says is there.
   */
  | {
      readonly do: 'gpu-dma';
      readonly guest: GuestName;
      readonly device: Sbdf;
      readonly gfn: number | 'untouched' | 'touched' | 'rmrr';
      readonly attempts: number;
    }
  /**
   * The USB controller writes `attempts` frames of its reserved memory and the CPU looks at each; the guest runs `usb` for it.
   */
  | { readonly do: 'reserved-io'; readonly guest: GuestName; readonly device: Sbdf; readonly attempts: number }
  /** The guest's kernel does not mind its map: `attempts` tries at the frames reserved for a device of this host. */
  | {
      readonly do: 'enter-reserved';
      readonly guest: GuestName;
      readonly device: Sbdf;
      readonly how: Intrusion;
      readonly attempts: number;
    }
  /** The guest's driver stores `attempts` times into a window of its device. */
  | {
      readonly do: 'bar-io';
      readonly guest: GuestName;
      readonly device: Sbdf;
      readonly bar: number;
      readonly attempts: number;
    }
  /**
   * The device model (in dom0) gets in the way of a device's reserved region: it moves the guest's page `page` to its first frame, or
   * maps the device's window `bar` there.
   */
  | {
      readonly do: 'device-model';
      readonly guest: GuestName;
      readonly device: Sbdf;
      readonly how: { readonly page: number } | { readonly bar: number };
    }
  /** `timeoutUs` is real time: how fast the machine is, not how fast the scenario's timers run. */
  /** A guest's virtual GPU comes or goes; or its driver is ordered to do something, `attempts` times. */
  | {
      readonly do: 'vgpu';
      readonly guest: GuestName;
      readonly device: Sbdf;
      readonly act: 'attach' | 'detach' | VgpuAct;
      readonly attempts: number;
    }
  /** dom0 manages bus frames of its own, under its device's DMA or between it; each is an attempt. */
  | {
      readonly do: 'bus-frames';
      readonly device: Sbdf;
      readonly act: BusAct;
      readonly card: 'running' | 'stopped';
      readonly attempts: number;
    }
  | { readonly do: 'wait-for'; readonly condition: Assertion; readonly timeoutUs: number }
  /** `count` guests of `memoryMb` are built one after the other beside dom0 (foreign mappings, ballooning) and destroyed. */
  | { readonly do: 'create-beside'; readonly count: number; readonly memoryMb: number }
  /** SIGKILL to a process; `guest` names whose agent. */
  | { readonly do: 'kill'; readonly what: 'hypervisor' | 'toolstack' }
  | { readonly do: 'kill'; readonly what: 'guest-agent'; readonly guest: GuestName }
  /** Safepoint: every state invariant is checked now, and not only at the end. */
  | { readonly do: 'check-invariants' };

export type Step = StepAction & StepCommon;

/** At least one is given. */
export interface Bound {
  readonly atLeast?: number;
  readonly atMost?: number;
  readonly equals?: number;
}

/** `at-target`: running, and its balloon has reached memory/target. */
export type GuestState = 'running' | 'crashed' | 'absent' | 'destroyed' | 'at-target';

export interface E820Row {
  /** Bytes; `end` is the last byte. */
  readonly start: number;
  readonly end: number;
  /** `hole`: no entry of the map touches the range. */
  readonly type: RegionType | 'hole';
}

type AssertionOf =
  | { readonly check: 'violated'; readonly invariant: string; readonly atLeast: number }
  /** `*`: no invariant at all is violated. */
  | { readonly check: 'never'; readonly invariant: string }
  | {
      readonly check: 'fault';
      readonly device: Sbdf | null;
      readonly addr: number | null;
      readonly kind: 'read' | 'write' | null;
      readonly reason: number | null;
      readonly atLeast: number;
    }
  | { readonly check: 'noFault'; readonly device: Sbdf | null }
  | { readonly check: 'guest'; readonly guest: GuestName; readonly is: GuestState }
  | { readonly check: 'dmesg'; readonly regex: string; readonly atLeast: number }
  | { readonly check: 'toolstack-error'; readonly regex: string; readonly atLeast: number }
  /** Hypercall or domctl `of` answered this error. */
  | { readonly check: 'errno'; readonly errno: ErrnoName; readonly of: string; readonly atLeast: number }
  | ({ readonly check: 'counter'; readonly counter: CounterName } & Bound)
  /** Each row is in the guest's map; rows not named do not matter. */
  | { readonly check: 'e820'; readonly guest: GuestName; readonly rows: readonly E820Row[] }
  | { readonly check: 'pod'; readonly guest: GuestName; readonly entries: Bound | null; readonly cache: Bound | null }
  /** The entries of one gfn at the end of the run (or when waited for); null = not asked. */
  | {
      readonly check: 'entry';
      readonly guest: GuestName;
      readonly gfn: number;
      readonly p2m: string | null;
      readonly iommu: 'absent' | 'mapped' | null;
    }
  /** The counter is more than `factor` times what it is in the other twin. */
  | { readonly check: 'greater'; readonly counter: CounterName; readonly thanTwin: string; readonly factor: number };

export type Assertion = AssertionOf & { readonly line: number };
