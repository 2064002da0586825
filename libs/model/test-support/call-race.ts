// Calls that race: each CPU plays a list of calls over and over, the first CPU a number of times, the others until it has ended.
import { Worker } from 'node:worker_threads';
import type { HostShared, Violation } from '#model/host';
import type { Call } from '#model/hypercall/calls';

export interface RacingCpu {
  readonly domid: number;
  readonly calls: readonly Call[];
}

export interface CallRaceWork {
  readonly shared: HostShared;
  readonly cpu: number;
  readonly plays: RacingCpu;
  /** Rounds of the first CPU; the others do as many as come. */
  readonly rounds: number;
  readonly control: SharedArrayBuffer;
}

/** Words of `control`. */
export const callRaceWord = { over: 0, started: 1 } as const;

export interface CpuReport {
  readonly rounds: number;
  /** How often each answer came, by call and rc. */
  readonly answers: Readonly<Record<string, number>>;
  readonly violations: readonly Violation[];
}

/** One report per CPU, in order. */
export function raceCalls(shared: HostShared, cpus: readonly RacingCpu[], rounds: number): Promise<CpuReport[]> {
  const control = new SharedArrayBuffer(16);
  return Promise.all(
    cpus.map(
      (plays, cpu) =>
        new Promise<CpuReport>((resolve, reject) => {
          const work: CallRaceWork = { shared, cpu, plays, rounds, control };
          const worker = new Worker(new URL('./call-race-worker.ts', import.meta.url), {
            workerData: work,
            execArgv: ['--conditions=source'],
          });
          worker.once('message', resolve);
          worker.once('error', reject);
        }),
    ),
  );
}
