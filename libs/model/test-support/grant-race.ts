// Domains that grant and map on real threads: the granting domain takes its entries back and then uses its pages for itself; two
// vCPUs of the mapper map, write and unmap, and touch what the other has mapped.
import { Worker } from 'node:worker_threads';
import type { HostShared } from '#model/host';

export interface GrantRaceWork {
  readonly shared: HostShared;
  readonly cpu: number;
  readonly role: 'granter' | 'mapper' | 'toucher';
  readonly front: number;
  readonly back: number;
  /** gfn of the table, references and gfns that are played with, and where the mapper maps. */
  readonly table: number;
  readonly firstRef: number;
  readonly count: number;
  readonly at: number;
  /** Grants, at least: it goes on, up to a hundred times as many, until one of `goals` was seen. */
  readonly rounds: number;
  readonly goals: readonly (keyof typeof grantRaceWord)[];
  readonly control: SharedArrayBuffer;
}

/** Words of `control`. */
export const grantRaceWord = {
  over: 0,
  granted: 1,
  mapped: 2,
  refused: 3,
  violations: 4,
  canaries: 5,
  busy: 6,
} as const;

export function runGrantRace(
  work: Omit<GrantRaceWork, 'cpu' | 'role' | 'control'>,
  roles: readonly GrantRaceWork['role'][],
): Promise<Record<keyof typeof grantRaceWord, number>> {
  const control = new SharedArrayBuffer(64);
  const ends = roles.map(
    (role, cpu) =>
      new Promise<void>((resolve, reject) => {
        const worker = new Worker(new URL('./grant-race-worker.ts', import.meta.url), {
          workerData: { ...work, cpu, role, control } satisfies GrantRaceWork,
          execArgv: ['--conditions=source'],
        });
        worker.once('error', reject);
        worker.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`${role} ended with ${code}`))));
      }),
  );
  const words = new Int32Array(control);
  const names = Object.entries(grantRaceWord);
  return Promise.all(ends).then(
    () => Object.fromEntries(names.map(([name, at]) => [name, Atomics.load(words, at)])) as never, // one number per name
  );
}
