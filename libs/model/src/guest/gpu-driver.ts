// A guest's graphics driver: command buffers whose DMA goes to frames that its kernel believes are RAM. Whether anything is
// behind them it cannot see; a DMA fault shows as a hang, the driver resets the device, and after enough resets the system
// gives up, as in the first seed story. It never touches its buffers before the device has written them, unless told to.
import type { DmaOutcome } from '../hypercall/calls.ts';
import { errnoName } from '../hypercall/errno.ts';
import { type GuestMemory, pageState } from './guest-memory.ts';
import { GuestPanic } from './guest-panic.ts';
import type { DmaPlace, GpuWorkloadSpec } from './guest-spec.ts';
import { type Task, type TaskContext, tagOf } from './task.ts';

const TAG_SALT = 0x6707;
const MAX_REGIONS = 16;

/** The driver's buffers: from an exact frame up, or from the end of low RAM down. */
export function takeGpuBuffers(memory: GuestMemory, spec: GpuWorkloadSpec): number[] {
  if (spec.bufferGfn !== null) return memory.allocUpFrom(spec.bufferGfn, spec.bufferFrames, pageState.dma);
  return memory.allocDownFrom(memory.lowEnd - 1, spec.bufferFrames, pageState.dma);
}

interface Request {
  readonly place: DmaPlace;
  readonly frames: number;
  left: number;
}

export class GpuDriver implements Task {
  readonly id: string;
  readonly device: number;
  private readonly c: TaskContext;
  private readonly spec: GpuWorkloadSpec;
  private readonly buffers: readonly number[];
  private readonly requests: Request[] = [];
  private submitted = 0;
  private resets = 0;

  /** `buffers`: taken already, when the kernel booted; null: the driver is loaded now. */
  constructor(context: TaskContext, spec: GpuWorkloadSpec, buffers: readonly number[] | null = null) {
    this.id = spec.id;
    this.device = spec.device;
    this.c = context;
    this.spec = spec;
    this.buffers = buffers ?? takeGpuBuffers(context.memory, spec);
    if (spec.bursts > 0) this.requests.push({ place: 'untouched', frames: spec.burstFrames, left: spec.bursts });
  }

  /** One command buffer of `frames` single-frame writes. */
  request(frames: number, place: DmaPlace): void {
    this.requests.push({ place, frames, left: 1 });
  }

  /** One command buffer: submit, wait, look. */
  step(now: number): number {
    const request = this.requests[0];
    if (!request) return Number.POSITIVE_INFINITY;
    request.left--;
    if (request.left <= 0) this.requests.shift();
    this.burst(request);
    if (request.left <= 0 || this.spec.framesPerSecond === 0) return now;
    return now + (request.frames * 1000) / this.spec.framesPerSecond;
  }

  private burst(request: Request): void {
    const { port, sink, memory, seed } = this.c;
    const frames = this.framesFor(request);
    if (frames.length === 0) {
      sink.event('workload', { id: this.id, state: 'failed', text: `no frame for DMA: ${request.place}` });
      return;
    }
    if (request.place === 'touched') {
      port.call({ op: 'touch', frames: { frames } });
      memory.markTouched(frames);
    }
    const tag = tagOf(seed, TAG_SALT, this.submitted++);
    const outcome = this.write(frames, tag);
    if (outcome === null) return;
    const { completed = 0, faults = 0, firstFaultDfn = -1, firstFaultReason: reason = 0 } = outcome;
    const first = frames[0] ?? -1;
    sink.event('gpuBurst', { id: this.id, first, frames: frames.length, completed, faults, firstFaultDfn, reason });
    if (faults > 0 || completed < frames.length) this.hung(frames, completed);
    else if (request.place !== 'rmrr') this.readBack(frames, tag);
  }

  /** As many frames as asked for; over and over the same ones if the driver has fewer. */
  private framesFor({ place, frames: wanted }: Request): Uint32Array {
    const pool = this.poolFor(place, wanted);
    return Uint32Array.from({ length: pool.length === 0 ? 0 : wanted }, (_, i) => pool[i % pool.length] as number);
  }

  private poolFor(place: DmaPlace, wanted: number): readonly number[] {
    if (place === 'touched') return this.buffers;
    if (place === 'untouched') return this.buffers.filter((frame) => !this.c.memory.isTouched(frame));
    if (place === 'rmrr') return this.reservedFrames();
    const own = this.buffers.filter((frame) => frame >= place);
    // A frame that is not the driver's is used all the same: a driver can be wrong.
    return own[0] === place ? own : Array.from({ length: wanted }, (_, i) => place + i);
  }

  /** The device's first reserved region, as the hypervisor reports it. */
  private reservedFrames(): readonly number[] {
    const sbdf = this.device;
    const answer = this.c.port.call({ op: 'reserved_device_memory_map', flags: 0, sbdf, capacity: MAX_REGIONS });
    const region = answer.entries?.[0];
    return region ? Array.from({ length: region.nrPages }, (_, i) => region.startPfn + i) : [];
  }

  private write(frames: Uint32Array, tag: number): Partial<DmaOutcome> | null {
    const { port, sink } = this.c;
    const sbdf = this.device;
    const commands = [{ kind: 'write', frames: { frames }, tag, repeat: 1 } as const];
    const submitted = port.call({ op: 'device_submit', sbdf, commands });
    if (submitted.rc < 0 || submitted.job === undefined) {
      sink.event('workload', { id: this.id, state: 'failed', text: `device_submit: ${errnoName(submitted.rc)}` });
      return null;
    }
    return port.call({ op: 'device_wait', sbdf, job: submitted.job });
  }

  /** What the device wrote is looked at by the CPU, as a driver reads a result. */
  private readBack(frames: Uint32Array, tag: number): void {
    const { port, sink, memory } = this.c;
    const answer = port.call({ op: 'verify', frames: { frames }, tag });
    memory.markTouched(frames);
    if (!answer.bad) return;
    const { bad, firstBad = -1, found = 0 } = answer;
    sink.event('noWriteLost', { id: this.id, gfn: firstBad, expected: tag, found, bad });
  }

  private hung(frames: Uint32Array, completed: number): void {
    if (this.spec.onFault === 'crash' && this.resets >= this.spec.resetsBeforeCrash) {
      const lost = frames.length - completed;
      throw new GuestPanic(`video device hung: ${lost} of ${frames.length} DMA writes did not arrive`);
    }
    this.resets++;
    this.c.port.call({ op: 'device_reset', sbdf: this.device });
  }

  stop(): void {
    this.requests.length = 0;
    this.c.memory.freePages(this.buffers);
  }
}
