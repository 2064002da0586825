// Virtual time: every actor has a clock, every step a cost (step-costs.ts), and whoever's clock is lowest goes on. So an actor
// runs ahead while it stays lowest, and one that waited goes on at the time of whoever let it go. The same figures on every
// machine.
import { type Control, MAX_ACTORS, RESUMED } from '../control.ts';
import { isEnabled, type Scheduler } from './scheduler.ts';
import { stepCostNs } from './step-costs.ts';

const NOBODY = -1;

export class TimedScheduler implements Scheduler {
  /** Virtual nanoseconds of each actor. */
  readonly clocks: Float64Array<SharedArrayBuffer>;
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly control: Control;

  constructor(control: Control) {
    this.control = control;
    this.clocks = control.schedulerDoubles.subarray(0, MAX_ACTORS);
    this.words = control.scheduler;
  }

  learn(): void {}

  begin(): void {
    this.clocks.fill(0);
    this.words[0] = 0;
  }

  /** The step taken before this choice is over: it is charged to whoever took it. */
  private charge(index: number): void {
    const { clocks, control, words } = this;
    if (index <= (words[0] as number)) return;
    const event = control.eventKinds[index - 1] as number;
    const actor = event >> 8;
    clocks[actor] = (clocks[actor] as number) + stepCostNs(event & 255);
    words[0] = index;
  }

  /** When a schedule of so many events has ended: the clocks. */
  ended(events: number): readonly number[] {
    this.charge(events);
    return [...this.clocks];
  }

  pick(me: number, enabled: number, _costs: boolean, index: number): number {
    const { clocks, control } = this;
    this.charge(index);
    let best = NOBODY;
    for (let actor = 0; actor < MAX_ACTORS; actor++) {
      if (!isEnabled(enabled, actor)) continue;
      if (best === NOBODY || (clocks[actor] as number) < (clocks[best] as number)) best = actor;
    }
    // One that had to wait cannot go on in the past of whoever it waited for.
    const waited = control.words[control.actor(best) + 1] === 2 || control.get(control.actor(best) + 2) === RESUMED;
    if (waited && me >= 0) clocks[best] = Math.max(clocks[best] as number, clocks[me] as number);
    return best;
  }
}
