// The shared GPUs of one DMA thread at work: time slices in turn for every guest that has a job, as the hardware's scheduler gives
// them; through shadow tables for a mediated GPU, through the guest's own tables for a function of SR-IOV. Where an access lands
// is gpu-engine.ts and virtual-function.ts. Hardware: no lock, nobody is waited for, a fault is not replayed.

import type { EngineHooks } from '../device/device-engine.ts';
import type { Sbdf } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import type { DmaThread } from '../iommu/dma.ts';
import { serviceFaults } from '../iommu/faults.ts';
import { GpuEngine } from './gpu-engine.ts';
import { jobState } from './gpu-jobs.ts';
import type { GpuState } from './gpu-memory.ts';
import { ring } from './requests.ts';
import { VirtualFunction } from './virtual-function.ts';

/** Accesses of one guest's job before the next has its turn. */
const QUANTUM = 16;
/** A job without an end waits so long after each turn: it is there to be met, not to fill a CPU of the machine that plays it. */
const REST_MS = 0.5;
const LEVELS = 4;

/** One access of the job in `slot`: 0, a negative number for a fault of the GPU's own, or the IOMMU's reason. */
type AccessOf = (slot: number, page: number) => number;

interface Running {
  readonly gpu: GpuState;
  readonly engine: GpuEngine;
  readonly functions: Map<number, VirtualFunction>;
  /** By slot: when a job that rests goes on. */
  readonly due: Map<number, number>;
}

export class GpuRunner {
  private readonly h: Host;
  private readonly thread: number;
  private readonly hooks: Pick<EngineHooks, 'onFault' | 'now'>;
  private readonly onDone: () => void;
  private readonly gpus: readonly Running[];

  /** `onDone`: a job has ended, and its figures can be read. */
  constructor(h: Host, thread: number, hooks: Pick<EngineHooks, 'onFault' | 'now'>, onDone: () => void) {
    this.h = h;
    this.thread = thread;
    this.hooks = hooks;
    this.onDone = onDone;
    this.gpus = h.gpus.all
      .filter(({ config }) => h.devices.threadOf(h.devices.indexOf(config.sbdf)) === thread)
      .map((gpu) => ({ gpu, engine: new GpuEngine(h, gpu, thread), functions: new Map(), due: new Map() }));
  }

  /** At most about `accesses`. Milliseconds until there is more to do: 0 = at once, Infinity = when a job is submitted. */
  runBurst(accesses: number): number {
    const now = this.hooks.now?.() ?? 0;
    let left = accesses;
    let next = Number.POSITIVE_INFINITY;
    for (const running of this.gpus) {
      for (let slot = 0; slot < this.h.config.maxDomains; slot++) {
        if (running.gpu.jobs.state(slot) !== jobState.ready) continue;
        const due = running.due.get(slot) ?? 0;
        if (due <= now && left > 0) {
          left -= Math.max(1, this.runJob(running, slot));
          const endless = running.gpu.jobs.get(slot, 'passes') === 0 && this.hooks.now !== undefined;
          running.due.set(slot, endless ? now + REST_MS : 0);
          if (running.gpu.jobs.state(slot) === jobState.ready) next = Math.min(next, endless ? REST_MS : 0);
        } else next = Math.min(next, Math.max(0, due - now));
      }
    }
    return next;
  }

  private runJob(running: Running, slot: number): number {
    const { gpu } = running;
    const { jobs } = gpu;
    const pages = jobs.get(slot, 'pages');
    const passes = jobs.get(slot, 'passes');
    const access = this.accessOf(running, slot);
    for (let did = 0; did < QUANTUM; did++) {
      if (jobs.isStopped(slot) || this.isOrphan(gpu, slot) || (passes > 0 && jobs.get(slot, 'pass') >= passes)) {
        this.end(gpu, slot);
        return did;
      }
      const index = jobs.get(slot, 'index');
      const reason = access(slot, jobs.get(slot, 'page') + index);
      jobs.set(slot, 'index', index + 1 < pages ? index + 1 : 0);
      if (index + 1 >= pages) jobs.add(slot, 'pass', 1);
      if (reason === 0) jobs.add(slot, 'completed', 1);
      else if (reason < 0) jobs.add(slot, 'pageFaults', 1);
      else {
        this.hang(running, slot, reason);
        return did + 1;
      }
    }
    return QUANTUM;
  }

  /** Its guest is no more: the slot is another's, or nobody's. */
  private isOrphan({ jobs }: GpuState, slot: number): boolean {
    const d = this.h.slot(slot);
    return !d.exists || d.r.incarnation !== jobs.get(slot, 'incarnation');
  }

  private accessOf({ gpu, engine, functions }: Running, slot: number): AccessOf {
    const { jobs } = gpu;
    const [sbdf, root, tag] = [jobs.get(slot, 'sbdf'), jobs.get(slot, 'root'), jobs.get(slot, 'tag')];
    const write = jobs.get(slot, 'write') === 1;
    if (sbdf === gpu.config.sbdf) return (_, page) => engine.access({ slot, context: root, page, write, tag });
    let unit = functions.get(sbdf);
    if (!unit) {
      unit = new VirtualFunction(this.h, this.thread, sbdf as Sbdf); // gpu-op.ts took it from the host's devices
      functions.set(sbdf, unit);
    }
    const own = unit;
    return (_, page) => own.access(root, LEVELS, page, write, tag);
  }

  /** The engine hangs at a fault of the bus; whoever starts the next job resets it. */
  private hang({ gpu, engine, functions }: Running, slot: number, reason: number): void {
    const { jobs } = gpu;
    const sbdf = jobs.get(slot, 'sbdf');
    const dma: DmaThread = functions.get(sbdf)?.dma ?? engine.dma;
    jobs.add(slot, 'busFaults', 1);
    jobs.set(slot, 'reason', reason);
    jobs.set(slot, 'firstFaultDfn', dma.dfn);
    const write = jobs.get(slot, 'write') === 1;
    this.hooks.onFault?.({ sbdf, job: 0, dfn: dma.dfn, write, reason, cause: dma.lastFault });
    serviceFaults(this.h, this.hooks.now?.() ?? 0);
    this.end(gpu, slot);
  }

  private end(gpu: GpuState, slot: number): void {
    gpu.jobs.finish(slot);
    ring(gpu);
    this.onDone();
  }
}
