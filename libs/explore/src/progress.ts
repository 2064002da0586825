// Notices an actor that gets nowhere: it alone runs, takes the same cycle of steps again and again, and all that others could see is
// as it was. What the actor counts in variables of its own is not seen, so many cycles are asked for: a loop that goes over the pages of a
// superpage and finds nothing to do is no finding, nor one that gives up after some tries.
import type { Control } from './control.ts';

/** Cycles of more steps are not looked for. */
const LONGEST = 64;
/** A cycle is one once it was gone through so often; the state is compared after so many more, which is twice the pages of 2M. */
const FOUND = 4;
const CYCLES = 1024;
const LOOK_EVERY = 256;

interface Suspicion {
  readonly since: number;
  readonly period: number;
  readonly digest: string;
}

export class Progress {
  private readonly control: Control;
  private readonly actor: number;
  private readonly digest: () => string;
  private suspicion: Suspicion | null = null;
  /** The next event at which it is worth looking. */
  next = LOOK_EVERY;

  /** `digest`: of all shared state. */
  constructor(control: Control, actor: number, digest: () => string) {
    this.control = control;
    this.actor = actor;
    this.digest = digest;
  }

  /** Before each schedule. */
  begin(): void {
    this.suspicion = null;
    this.next = LOOK_EVERY;
  }

  /** `events` have happened, the actor is about to take one more: does it repeat a state? To be asked when `next` is reached. */
  repeats(events: number): boolean {
    const { suspicion } = this;
    if (suspicion !== null) {
      const { since, period, digest } = suspicion;
      if (events < this.next) return false;
      if (this.same(events, period, events - since) && (events - since) % period === 0) return this.digest() === digest;
      this.suspicion = null;
    }
    this.next = events + LOOK_EVERY;
    for (let period = 1; period <= LONGEST; period++) {
      if (events < period * (FOUND + 1) || !this.same(events, period, period * FOUND)) continue;
      this.suspicion = { since: events, period, digest: this.digest() };
      this.next = events + period * CYCLES;
      break;
    }
    return false;
  }

  /** Are the last `count` events, all this actor's, each like the one a period before it? */
  private same(events: number, period: number, count: number): boolean {
    const { eventKinds, eventWheres } = this.control;
    for (let i = events - 1; i >= events - count; i--) {
      const kind = eventKinds[i] as number;
      if (kind >> 8 !== this.actor || eventKinds[i - period] !== kind || eventWheres[i - period] !== eventWheres[i])
        return false;
    }
    return true;
  }
}
