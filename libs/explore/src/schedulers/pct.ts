// Probabilistic concurrency testing (Burckhardt, Kothari, Musuvathi, Nagarakatte, ASPLOS 2010): every actor gets a random
// priority, the highest that can go on runs, and at d-1 random steps whoever runs falls below all others. A bug that needs d
// orderings is found by one schedule with a chance of at least 1 / (n · k^(d-1)), n actors and k steps.
import type { Control } from '../control.ts';
import { mixed, xorshift } from './random.ts';
import { isEnabled, type Scheduler } from './scheduler.ts';

/** Words: steps of a schedule; change points passed; priorities; change points. */
const LENGTH = 0;
const PASSED = 1;
const PRIORITIES = 2;

export class PctScheduler implements Scheduler {
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly actors: number;
  private readonly depth: number;
  private readonly points: number;

  /** `depth`: orderings that the bug needs; 2 is one change point. */
  constructor(control: Control, actors: number, depth: number) {
    this.words = control.scheduler;
    this.actors = actors;
    this.depth = depth;
    this.points = PRIORITIES + actors;
  }

  learn(lengths: readonly number[]): void {
    this.words[LENGTH] = lengths.reduce((sum, length) => sum + length, 0);
  }

  begin(seed: number): void {
    const { words, actors, depth } = this;
    words[PASSED] = 0;
    let state = mixed(seed);
    const below = (n: number): number => {
      state = xorshift(state);
      return (state >>> 0) % n;
    };
    // Fisher and Yates; the d-1 lowest priorities are left for those that fall.
    for (let i = 0; i < actors; i++) words[PRIORITIES + i] = depth + i;
    for (let i = actors - 1; i > 0; i--) {
      const other = PRIORITIES + below(i + 1);
      const kept = words[PRIORITIES + i] as number;
      words[PRIORITIES + i] = words[other] as number;
      words[other] = kept;
    }
    const points = Array.from({ length: depth - 1 }, () => below(Math.max(1, words[LENGTH] as number))).sort(
      (a, b) => a - b,
    );
    for (const [i, point] of points.entries()) words[this.points + i] = point;
  }

  pick(me: number, enabled: number, _costs: boolean, index: number): number {
    const { words } = this;
    for (let passed = words[PASSED] as number; passed < this.depth - 1; passed++) {
      if (index < (words[this.points + passed] as number)) break;
      if (me >= 0) words[PRIORITIES + me] = this.depth - 1 - passed;
      words[PASSED] = passed + 1;
    }
    let best = -1;
    for (let actor = 0; actor < this.actors; actor++) {
      if (!isEnabled(enabled, actor)) continue;
      if (best < 0 || (words[PRIORITIES + actor] as number) > (words[PRIORITIES + best] as number)) best = actor;
    }
    return best;
  }
}
