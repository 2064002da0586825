// The one format of injected faults: delay, stall or fail the n-th step of a kind. Plain data, so that a scenario file, a
// command line and an exploration can all carry it. `planStep` turns a plan into the `step` of a live thread.
import { type StepKind, type StepKindName, stepKind } from './step.ts';

export interface PlannedFault {
  /** Fires at the `nth` (1-based) matching step of this thread, and, with `every`, at each `every`-th after it. */
  readonly at: { readonly kind: StepKindName; readonly where?: number; readonly nth: number; readonly every?: number };
  /**
   * Which threads run it: `guest` = the vCPUs of all guest processes (dom0's too), anything else = pCPU and DMA threads. `pcpu`: the
   * one with this number, of a guest the vCPU; absent = all of them.
   */
  readonly on?: { readonly process?: 'hypervisor' | 'guest'; readonly pcpu?: number };
  readonly do: { readonly delayUs: number } | { readonly stallMs: number } | { readonly errno: number };
}

export type FaultPlan = readonly PlannedFault[];

/** How a plan makes time pass. A *delay* busy-waits (the CPU is slow), a *stall* sleeps (the CPU is gone). */
export interface PlanClock {
  delayUs(us: number): void;
  /** Must extend every watchdog by `ms` (see `LockTable.extendWatchdog`). */
  stallMs(ms: number): void;
}

export function planStep(plan: FaultPlan, clock: PlanClock): (kind: StepKind, where: number) => number {
  const byKind = new Map<StepKind, { fault: PlannedFault; seen: number }[]>();
  for (const fault of plan) {
    const kind = stepKind[fault.at.kind];
    const list = byKind.get(kind) ?? [];
    list.push({ fault, seen: 0 });
    byKind.set(kind, list);
  }
  return (kind, where) => {
    const entries = byKind.get(kind);
    if (!entries) return 0;
    let result = 0;
    for (const entry of entries) {
      const { at, do: action } = entry.fault;
      if (at.where !== undefined && at.where !== where) continue;
      entry.seen++;
      const past = entry.seen - at.nth;
      if (past !== 0 && !(at.every && past > 0 && past % at.every === 0)) continue;
      if ('delayUs' in action) clock.delayUs(action.delayUs);
      else if ('stallMs' in action) clock.stallMs(action.stallMs);
      else result = action.errno;
    }
    return result;
  };
}
