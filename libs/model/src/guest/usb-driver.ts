// A USB controller under firmware's keyboard emulation: from boot on the controller writes into the memory that firmware reserved
// for it, and the CPU reads there what it wrote, as a system-management handler does. What a guest believes of that memory
// does not matter to either. It tells firmware's memory by its tag, and notices when somebody else has written.
import { firmwareTag } from '../boot/firmware-memory.ts';
import { errnoName } from '../hypercall/errno.ts';
import type { UsbWorkloadSpec } from './guest-spec.ts';
import { reservedFrames } from './reserved-frames.ts';
import { type Task, type TaskContext, tagOf } from './task.ts';

const TAG_SALT = 0x05b;
/** Frames of one command buffer: fewer than the faults after which a device loses bus mastering. */
const BURST = 8;

interface Looked {
  wrong: number;
  firstWrong: number;
  found: number;
}

export class UsbDriver implements Task {
  readonly id: string;
  readonly device: number;
  private readonly c: TaskContext;
  private readonly spec: UsbWorkloadSpec;
  private readonly frames: readonly number[];
  private next = 0;
  private submitted = 0;
  private asked = 0;

  constructor(context: TaskContext, spec: UsbWorkloadSpec) {
    this.id = spec.id;
    this.device = spec.device;
    this.c = context;
    this.spec = spec;
    this.frames = reservedFrames(context.port, spec.device);
    this.recognise();
  }

  private recognise(): void {
    const { port, sink } = this.c;
    const startPfn = this.frames[0] ?? -1;
    const pages = this.frames.length;
    if (pages === 0) {
      sink.event('workload', { id: this.id, state: 'failed', text: 'the device has no reserved memory' });
      return;
    }
    const { tags = [], faulted: missing = 0 } = port.call({ op: 'load', frames: { start: startPfn, count: pages } });
    const firmware = tags.filter((tag, i) => tag === firmwareTag(startPfn + i)).length;
    sink.event('reservedRegion', { id: this.id, startPfn, pages, firmware, missing });
  }

  request(frames: number): void {
    this.asked += frames;
  }

  /** One command buffer: what was asked for, else what the keyboard needs. */
  step(now: number): number {
    const { framesPerSecond } = this.spec;
    if (this.frames.length === 0 || (this.asked === 0 && framesPerSecond === 0)) return Number.POSITIVE_INFINITY;
    const asked = this.asked > 0;
    const count = Math.min(BURST, this.frames.length, asked ? this.asked : BURST);
    if (asked) this.asked -= count;
    this.burst(count, asked);
    if (this.asked > 0) return now;
    return framesPerSecond === 0 ? Number.POSITIVE_INFINITY : now + (count * 1000) / framesPerSecond;
  }

  private burst(count: number, asked: boolean): void {
    const { port, sink, mailboxes, seed } = this.c;
    const sbdf = this.device;
    const frames = Array.from({ length: count }, (_, i) => this.frames[(this.next + i) % this.frames.length] as number);
    this.next = (this.next + count) % this.frames.length;
    const before = this.look(frames, (gfn) => mailboxes.get(gfn) ?? null);
    const tag = tagOf(seed, TAG_SALT ^ sbdf, this.submitted++);
    const commands = [{ kind: 'write', frames: { frames: Uint32Array.from(frames) }, tag, repeat: 1 } as const];
    const { rc, job } = port.call({ op: 'device_submit', sbdf, commands });
    if (rc < 0 || job === undefined) {
      sink.event('workload', { id: this.id, state: 'failed', text: `device_submit: ${errnoName(rc)}` });
      return;
    }
    const { completed = 0, faults = 0 } = port.call({ op: 'device_wait', sbdf, job });
    if (faults > 0) port.call({ op: 'device_reset', sbdf });
    const after = faults > 0 ? nothingWrong() : this.look(frames, () => tag);
    // What the CPU never saw it cannot miss later.
    if (faults === 0 && after.wrong === 0) for (const gfn of frames) mailboxes.set(gfn, tag);
    sink.event('reservedIo', {
      id: this.id,
      asked,
      frames: count,
      completed,
      faults,
      foreign: before.wrong,
      unseen: after.wrong,
      firstWrong: before.wrong > 0 ? before.firstWrong : after.firstWrong,
      found: before.wrong > 0 ? before.found : after.found,
    });
  }

  /** What the CPU finds there, compared with what it should; null: it does not know. */
  private look(frames: readonly number[], expected: (gfn: number) => number | null): Looked {
    const known = frames.filter((gfn) => expected(gfn) !== null);
    const result = nothingWrong();
    if (known.length === 0) return result;
    const { tags = [] } = this.c.port.call({ op: 'load', frames: { frames: Uint32Array.from(known) } });
    for (const [i, gfn] of known.entries()) {
      const found = tags[i] ?? 0;
      if (found === expected(gfn)) continue;
      if (result.wrong++ > 0) continue;
      result.firstWrong = gfn;
      result.found = found;
    }
    return result;
  }

  stop(): void {
    this.asked = 0;
  }
}

const nothingWrong = (): Looked => ({ wrong: 0, firstWrong: -1, found: 0 });
