// One of those that could go on, at every step, with a chance in proportion to the steps it still has to take: then every
// interleaving is about as likely as every other one. With equal chances a device of four steps would always be through before an
// operation of fifty has got anywhere (the walk of SURW, ASPLOS 2025). How long the actors are is known from a schedule before.
import { type Control, MAX_ACTORS } from '../control.ts';
import { isEnabled, lowest, type Scheduler } from './scheduler.ts';

/** Spreads a seed's bits (the finaliser of MurmurHash3): neighbouring seeds give unlike schedules. Never 0. */
export function mixed(seed: number): number {
  let h = (seed + 0x9e3779b9) | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) | 1;
}

/** Marsaglia's xorshift with 32 bits; `state` is not 0. */
export function xorshift(state: number): number {
  let x = state;
  x ^= x << 13;
  x ^= x >>> 17;
  return x ^ (x << 5);
}

/** Words: the generator's state; steps of each actor; steps it has left. */
const STATE = 0;
const LENGTHS = 1;
const LEFT = LENGTHS + MAX_ACTORS;

export class RandomScheduler implements Scheduler {
  private readonly words: Int32Array<SharedArrayBuffer>;

  constructor(control: Control) {
    this.words = control.scheduler;
  }

  learn(lengths: readonly number[]): void {
    this.words.fill(0, LENGTHS, LEFT);
    this.words.set(lengths, LENGTHS);
  }

  begin(seed: number): void {
    this.words[STATE] = mixed(seed);
    this.words.copyWithin(LEFT, LENGTHS, LEFT);
  }

  pick(_me: number, enabled: number): number {
    const { words } = this;
    if ((enabled & (enabled - 1)) === 0) return this.take(lowest(enabled));
    const next = xorshift(words[STATE] as number);
    words[STATE] = next;
    let sum = 0;
    for (let actor = 0; actor < MAX_ACTORS; actor++) if (isEnabled(enabled, actor)) sum += this.weight(actor);
    let at = (next >>> 0) % sum;
    for (let actor = 0; actor < MAX_ACTORS; actor++) {
      if (!isEnabled(enabled, actor)) continue;
      at -= this.weight(actor);
      if (at < 0) return this.take(actor);
    }
    return this.take(lowest(enabled));
  }

  private weight(actor: number): number {
    return Math.max(1, this.words[LEFT + actor] as number);
  }

  private take(actor: number): number {
    this.words[LEFT + actor] = (this.words[LEFT + actor] as number) - 1;
    return actor;
  }
}
