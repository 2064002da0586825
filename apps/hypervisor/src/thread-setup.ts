// What every thread that touches the model does first: choose its seam, attach to the host, collect what the model reports.
// Shared by the pCPU and the DMA threads; knows neither.
import { cpuCount, Host, type HostShared, type Violation } from '#model/host';
import type { FaultPlan } from '#model/shared-memory/fault-plan';
import { LockLog } from '#model/shared-memory/lock-log';
import type { LockTable } from '#model/shared-memory/lock-table';
import { installSeam } from '#model/shared-memory/step';
import { faultSeam } from '#wire/fault-seam';
import type { ConsoleLine, Reports } from './pcpu/work.ts';
import type { SharedWords } from './shared-words.ts';

const REPORTS_MAX = 10_000;
const REPORTS_CROWDED = 64;

/** Microseconds on a clock that all threads of the process share. */
export const nowUs = (): number => (performance.timeOrigin + performance.now()) * 1000;

/** Lines and violations of one thread, until they are handed to the main thread. */
export class ReportBuffer {
  private readonly words: SharedWords;
  private lines: ConsoleLine[] = [];
  private violations: (Violation & { tsUs: number })[] = [];
  constructor(words: SharedWords) {
    this.words = words;
  }

  printk(line: string): void {
    this.lines.push([this.words.nextConsoleSequence(), line]);
  }

  violation(v: Violation): void {
    // The first ones tell the story; a storm must not eat the memory of the process.
    if (this.violations.length < REPORTS_MAX) this.violations.push({ ...v, tsUs: nowUs() });
  }

  /** Long enough that it should not wait for the end of a call. */
  get crowded(): boolean {
    return this.lines.length + this.violations.length > REPORTS_CROWDED;
  }

  get empty(): boolean {
    return this.lines.length === 0 && this.violations.length === 0;
  }

  /** Everything since the last call. */
  take(): Reports {
    const { lines, violations } = this;
    const reports: Reports = { ...(lines.length ? { lines } : {}), ...(violations.length ? { violations } : {}) };
    this.lines = [];
    this.violations = [];
    return reports;
  }
}

/** Attaches this thread as `cpu`. The fault plan, if any part of it is for this thread, becomes its seam for good. */
export function attachThread(
  shared: HostShared,
  cpu: number,
  plan: FaultPlan,
  reports: ReportBuffer,
  lockLog: SharedArrayBuffer,
): Host {
  let table: LockTable | null = null;
  installSeam(faultSeam(plan, { process: 'hypervisor', cpu, extendWatchdog: (ms) => table?.extendWatchdog(ms) }));
  const host = new Host(shared, cpu, {
    printk: (line) => reports.printk(line),
    violation: (v) => reports.violation(v),
  });
  table = host.lockTable;
  table.log = new LockLog(lockLog, cpuCount(shared.config), cpu, nowUs);
  return host;
}
