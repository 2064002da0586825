// What a call costs in steps of the model, in modelled time (each step at the price of libs/explore's table) and by the clock. One a
// thread: it is the thread's seam.
import { stepCostNs } from '#explore/schedulers/step-costs';
import type { VirtualTime } from '#explore/virtual-time';
import { installSeam, stepKind } from '#model/shared-memory/step';

export interface Cost {
  readonly steps: number;
  readonly virtualNs: number;
  readonly wallNs: number;
}

export class Meter {
  private steps = 0;
  private ns = 0;
  private time: VirtualTime | null = null;
  /** The next call is no hypercall, but what a vCPU does in guest mode. */
  inGuestMode = false;

  constructor() {
    installSeam({
      step: (kind, where) => {
        const cost = kind === stepKind.hypercall && this.inGuestMode ? 0 : stepCostNs(kind);
        this.steps++;
        this.ns += cost;
        if (this.time?.on === true) this.time.step(kind, where, cost);
        return 0;
      },
      park: (words, index, expected, ms) => {
        if (this.time?.on === true) this.time.park(words, index, expected);
        else Atomics.wait(words, index, expected, ms);
      },
      nowNs: () => (this.time?.on === true ? this.time.now : performance.now() * 1e6),
    });
  }

  follow(time: VirtualTime): void {
    this.time = time;
  }

  measure(action: () => void): Cost {
    const [steps, ns, wall] = [this.steps, this.ns, performance.now()];
    action();
    return { steps: this.steps - steps, virtualNs: this.ns - ns, wallNs: (performance.now() - wall) * 1e6 };
  }
}
