// A vCPU of virtual-time.spec.ts: takes one lock over and over, for a time of its own, and writes down that it had it.
import { workerData } from 'node:worker_threads';
import { LockTable } from '#model/shared-memory/lock-table';
import { PanicCell } from '#model/shared-memory/panic';
import { RwLock } from '#model/shared-memory/rwlock';
import { installSeam } from '#model/shared-memory/step';
import { VirtualTime } from '../src/virtual-time.ts';

export interface ContenderWork {
  readonly me: number;
  readonly participants: number;
  readonly locks: SharedArrayBuffer;
  readonly time: SharedArrayBuffer;
  /** How many entries there are; then who had the lock, and from when to when: three doubles an entry. */
  readonly log: SharedArrayBuffer;
  readonly rounds: number;
  readonly holdNs: number;
  readonly restNs: number;
}

export const LOCK = 0;
export const declarations = [{ name: 'p2m', scope: 1, bias: 0 }] as const;

export function contend(work: ContenderWork, lead: (time: VirtualTime) => void): void {
  const table = new LockTable(work.locks, declarations, work.me, new PanicCell(new SharedArrayBuffer(65_536)));
  const time = new VirtualTime(work.time, work.participants, work.me, [work.locks], LOCK);
  installSeam({
    step: (kind, where) => {
      time.step(kind, where, 1);
      return 0;
    },
    park: (words, index, expected) => time.park(words, index, expected),
    nowNs: () => time.now,
  });
  const lock = new RwLock(table, LOCK);
  const log = new Float64Array(work.log);
  lead(time);
  for (let i = 0; i < work.rounds; i++) {
    lock.writeLock();
    const from = time.now;
    time.pass(work.holdNs);
    const at = 1 + 3 * (log[0] as number);
    log[0] = (log[0] as number) + 1;
    lock.writeUnlock();
    log.set([work.me, from, time.now], at);
    time.pass(work.restNs);
  }
  time.leave();
}

if (workerData) contend(workerData as ContenderWork, (time) => time.join());
