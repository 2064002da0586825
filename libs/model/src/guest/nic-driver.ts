// A network card's receive ring: the device writes into it almost all the time. Two halves take turns: while one is being
// written the other, just finished, is compared, so that DMA never pauses and a comparison is still exact. A frame that does
// not hold the last tag written to it is a lost write.
import { errnoName } from '../hypercall/errno.ts';
import { pageState } from './guest-memory.ts';
import type { NicWorkloadSpec } from './guest-spec.ts';
import { type Task, type TaskContext, tagOf } from './task.ts';

const RETRY_MS = 1_000;
const SHUFFLE_SALT = 0x5f1e;

interface Half {
  readonly frames: Uint32Array;
  job: number | null;
  tag: number;
}

/** Buffers come and go in the order in which packets were consumed: after a while the ring has them in no order at all. */
function shuffled(frames: number[], seed: number): number[] {
  for (let i = frames.length - 1; i > 0; i--) {
    const j = tagOf(seed, SHUFFLE_SALT, i) % (i + 1);
    [frames[i], frames[j]] = [frames[j] as number, frames[i] as number];
  }
  return frames;
}

export class NicDriver implements Task {
  readonly id: string;
  private readonly c: TaskContext;
  private readonly spec: NicWorkloadSpec;
  private readonly halves: readonly [Half, Half];
  private jobs = 0;
  private current = 0;

  constructor(context: TaskContext, spec: NicWorkloadSpec) {
    this.id = spec.id;
    this.c = context;
    this.spec = spec;
    const { memory } = context;
    const count = Math.max(2, spec.ringFrames);
    // Buffers of a card that has run for long lie everywhere; a kernel that keeps superpages keeps them together.
    const ring =
      memory.shared.allocation === 'scattered'
        ? shuffled(memory.allocSpread(count, pageState.dma), context.seed)
        : memory.allocPages(count, pageState.dma);
    const middle = ring.length >> 1;
    this.halves = [this.half(ring.slice(0, middle)), this.half(ring.slice(middle))];
    // The driver writes its descriptors' buffers once: no page of the ring is left to be populated by a device.
    context.port.call({ op: 'touch', frames: { frames: Uint32Array.from(ring) } });
    context.memory.markTouched(ring);
  }

  private half(frames: readonly number[]): Half {
    return { frames: Uint32Array.from(frames), job: null, tag: 0 };
  }

  /** Keeps the device busy: both halves submitted, then the older one waited for, compared and submitted again. */
  step(now: number): number {
    const half = this.halves[this.current % 2] as Half; // 0 or 1
    if (half.job !== null) this.complete(half);
    if (!this.submit(half)) return now + RETRY_MS;
    this.current++;
    const { framesPerSecond, passes } = this.spec;
    return framesPerSecond === 0 ? now : now + (half.frames.length * passes * 1000) / framesPerSecond;
  }

  private submit(half: Half): boolean {
    half.tag = tagOf(this.c.seed, 0x01c, this.jobs++);
    const { spec } = this;
    const answer = this.c.port.call({
      op: 'device_submit',
      sbdf: spec.device,
      commands: [{ kind: 'write', frames: { frames: half.frames }, tag: half.tag, repeat: spec.passes }],
    });
    if (answer.rc < 0 || answer.job === undefined) {
      this.c.sink.event('workload', {
        id: this.id,
        state: 'failed',
        text: `device_submit: ${errnoName(answer.rc)}`,
      });
      return false;
    }
    half.job = answer.job;
    return true;
  }

  private complete(half: Half): void {
    const { port, sink } = this.c;
    const { job } = half;
    if (job === null) return;
    half.job = null;
    const outcome = port.call({ op: 'device_wait', sbdf: this.spec.device, job });
    const { completed = 0, faults = 0, firstFaultDfn = -1, firstFaultReason: reason = 0 } = outcome;
    sink.event('nicJob', { id: this.id, completed, faults, firstFaultDfn, reason });
    // A storm of faults has switched bus mastering off: the driver starts its card again.
    if (faults > 0) port.call({ op: 'device_reset', sbdf: this.spec.device });
    if (this.jobs % this.spec.verifyEvery === 0) this.verify(half);
  }

  private verify(half: Half): void {
    const { port, sink } = this.c;
    const answer = port.call({ op: 'verify', frames: { frames: half.frames }, tag: half.tag });
    if (answer.faulted) sink.event('ramMissing', { id: this.id, faulted: answer.faulted });
    if (!answer.bad) return;
    const { bad, firstBad = -1, found = 0 } = answer;
    sink.event('noWriteLost', { id: this.id, gfn: firstBad, expected: half.tag, found, bad });
  }

  stop(): void {
    for (const half of this.halves) if (half.job !== null) this.complete(half);
    for (const half of this.halves) this.c.memory.freePages([...half.frames]);
  }
}
