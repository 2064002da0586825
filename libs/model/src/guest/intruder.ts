// A kernel that does not mind its memory map: it populates frames that the map calls reserved (a careless balloon), gives them up
// as if they were its RAM, or moves a page of its own there. What comes of it is the hypervisor's affair. Runs on the
// balloon's vCPU, a few tries at a time.
import { DOMID_SELF } from '../frames/addresses.ts';
import { physmapSpace } from '../hypercall/calls.ts';
import { pageState } from './guest-memory.ts';
import type { GuestCommand } from './guest-spec.ts';
import { reservedFrames } from './reserved-frames.ts';
import type { Task, TaskContext } from './task.ts';

type Wanted = Extract<GuestCommand, { do: 'enter-reserved' }>;

const SLICE = 20;

interface Progress {
  readonly wanted: Wanted;
  readonly frames: readonly number[];
  made: number;
  entered: number;
  firstError: number;
}

export class Intruder implements Task {
  readonly id = 'intruder';
  private readonly c: TaskContext;
  private readonly queue: Progress[] = [];

  constructor(context: TaskContext) {
    this.c = context;
  }

  request(wanted: Wanted): void {
    const frames = reservedFrames(this.c.port, wanted.device);
    this.queue.push({ wanted, frames, made: 0, entered: 0, firstError: 0 });
  }

  step(now: number): number {
    const progress = this.queue[0];
    if (!progress) return Number.POSITIVE_INFINITY;
    const { wanted, frames } = progress;
    const end = frames.length === 0 ? wanted.attempts : Math.min(wanted.attempts, progress.made + SLICE);
    for (; progress.made < end && frames.length > 0; progress.made++) {
      const error = this.enter(wanted, frames[progress.made % frames.length] as number);
      if (error === 0) progress.entered++;
      else progress.firstError ||= error;
    }
    if (frames.length === 0 || progress.made >= wanted.attempts) this.queue.shift();
    const { id, how, attempts } = wanted;
    const { made, entered, firstError } = progress;
    this.c.sink.event('enteredReserved', { id, how, attempts: made, wanted: attempts, entered, firstError });
    return now;
  }

  /** 0: it is done; else the error. A call that counts extents gives none: -1. */
  private enter({ how }: Wanted, gfn: number): number {
    const { port, memory } = this.c;
    const one = { domid: DOMID_SELF, order: 0, extents: { start: gfn, count: 1 } };
    switch (how) {
      case 'populate':
        return port.call({ op: 'populate_physmap', memFlags: 0, ...one }).rc === 1 ? 0 : -1;
      case 'give-up':
        return port.call({ op: 'decrease_reservation', ...one }).rc === 1 ? 0 : -1;
      case 'move': {
        const [page] = memory.allocPages(1, pageState.pinned);
        if (page === undefined) return -1;
        const space = physmapSpace.gmfn;
        const { rc } = port.call({ op: 'add_to_physmap', domid: DOMID_SELF, space, idx: page, gpfn: gfn, size: 1 });
        // A page that has moved is at its old place no more.
        if (rc !== 0) memory.freePages([page]);
        return rc;
      }
      default:
        return how satisfies never;
    }
  }

  stop(): void {
    this.queue.length = 0;
  }
}
