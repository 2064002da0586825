// A lender and its borrowers on real threads: borrowers touch the window as fast as they can, the lender lends, revokes and then uses
// its pages for itself. A write that arrives after the revocation returned shows as a changed canary.
import { Worker } from 'node:worker_threads';
import type { HostShared } from '#model/host';

export interface RaceWork {
  readonly shared: HostShared;
  readonly cpu: number;
  readonly role: 'lender' | 'borrower' | 'hypercaller';
  readonly lender: number;
  readonly borrower: number;
  readonly window: number;
  readonly pages: number;
  readonly from: number;
  /** Revocations of the lender, at least: it goes on, up to a hundred times as many, until each of `goals` was seen once. */
  readonly rounds: number;
  readonly goals: readonly (keyof typeof raceWord)[];
  readonly control: SharedArrayBuffer;
}

/** Words of `control`. */
export const raceWord = {
  /** 1: the lender has ended. */
  over: 0,
  revoked: 1,
  accesses: 2,
  faults: 3,
  violations: 4,
  /** Pages that changed after their revocation had returned. */
  canaries: 5,
  /** Revocations that answered anything but 0. */
  failures: 6,
  /** Borrowers that run. */
  running: 7,
} as const;

export function runRace(work: Omit<RaceWork, 'cpu' | 'role' | 'control'>, roles: readonly RaceWork['role'][]) {
  const control = new SharedArrayBuffer(64);
  const ends = roles.map(
    (role, cpu) =>
      new Promise<void>((resolve, reject) => {
        const worker = new Worker(new URL('./lending-race-worker.ts', import.meta.url), {
          workerData: { ...work, cpu, role, control } satisfies RaceWork,
          execArgv: ['--conditions=source'],
        });
        worker.once('error', reject);
        worker.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`${role} ended with ${code}`))));
      }),
  );
  const words = new Int32Array(control);
  const result = (): Record<keyof typeof raceWord, number> =>
    Object.fromEntries(Object.entries(raceWord).map(([name, at]) => [name, Atomics.load(words, at)])) as never; // one per name
  return Promise.all(ends).then(result);
}
