// Turns a fault plan into the seam of one live thread: which of the plan is the thread's, and how a delay and a stall pass on a
// real machine. It carries no schema, so that a vCPU thread stays free of what it does not need.
import { type FaultPlan, planStep } from '#model/shared-memory/fault-plan';
import type { Seam } from '#model/shared-memory/step';

/** A pCPU or DMA thread by its CPU number, or a guest's vCPU by its own. */
export interface FaultedThread {
  readonly process: 'hypervisor' | 'guest';
  readonly cpu: number;
  /** A stall is about to begin: no watchdog may count it. */
  readonly extendWatchdog: (ms: number) => void;
}

/** The faults of the plan that are meant for a process; one that names none is the hypervisor's. */
export const faultsOf = (plan: FaultPlan, process: 'hypervisor' | 'guest'): FaultPlan =>
  plan.filter((fault) => (fault.on?.process ?? 'hypervisor') === process);

function spin(us: number): void {
  const end = performance.now() + us / 1000;
  while (performance.now() < end);
}

function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** A clock for profiles, and a `step` if any of the plan is this thread's: without one the thread keeps its empty call. */
export function faultSeam(plan: FaultPlan, { process, cpu, extendWatchdog }: FaultedThread): Partial<Seam> {
  const mine = faultsOf(plan, process).filter((fault) => (fault.on?.pcpu ?? cpu) === cpu);
  const nowNs = (): number => performance.now() * 1e6;
  if (mine.length === 0) return { nowNs };
  const stallMs = (ms: number): void => {
    extendWatchdog(ms);
    sleep(ms);
  };
  return { nowNs, step: planStep(mine, { delayUs: spin, stallMs }) };
}
