// The figures of one order while it is carried out.
import type { GpuFigures, GpuOrder } from './spec.ts';

/** What a job answered. */
export interface JobAnswer {
  readonly rc: number;
  readonly completed?: number;
  readonly pageFaults?: number;
  readonly busFaults?: number;
  readonly firstFaultDfn?: number;
}

export class Tally {
  readonly order: GpuOrder;
  made = 0;
  private rc = 0;
  private completed = 0;
  private pageFaults = 0;
  private busFaults = 0;
  private firstFaultDfn = -1;
  private lost = 0;
  private firstLost = -1;

  constructor(order: GpuOrder) {
    this.order = order;
  }

  get attempts(): number {
    return 'attempts' in this.order.act ? this.order.act.attempts : 1;
  }

  /** It failed, or all attempts are made. */
  get over(): boolean {
    return this.rc !== 0 || this.made >= this.attempts;
  }

  fail(rc: number): void {
    this.rc ||= rc;
  }

  job({ completed = 0, pageFaults = 0, busFaults = 0, firstFaultDfn = -1 }: JobAnswer): void {
    this.completed += completed;
    this.pageFaults += pageFaults;
    this.busFaults += busFaults;
    if (this.firstFaultDfn < 0) this.firstFaultDfn = firstFaultDfn;
  }

  looked(bad: number, firstBad: number): void {
    this.lost += bad;
    if (bad > 0 && this.firstLost < 0) this.firstLost = firstBad;
  }

  /** What jobs that nobody waited for have found. */
  include(other: Tally | null): void {
    if (!other) return;
    const { completed, pageFaults, busFaults, firstFaultDfn, lost, firstLost, rc } = other;
    this.job({ rc, completed, pageFaults, busFaults, firstFaultDfn });
    this.looked(lost, firstLost);
    this.fail(rc);
  }

  get figures(): GpuFigures {
    const { order, over, rc, made, completed, pageFaults, busFaults, firstFaultDfn, lost, firstLost } = this;
    const { id, device, act } = order;
    const counts = { completed, pageFaults, busFaults, firstFaultDfn, lost, firstLost };
    return { id, device, what: act.what, over, rc, made, ...counts };
  }
}
