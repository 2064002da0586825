// A thread of the lock specs: takes the same locks as its siblings and counts under them without atomics.
import { parentPort, workerData } from 'node:worker_threads';
import { LockTable } from '#model/shared-memory/lock-table';
import { Mutex } from '#model/shared-memory/mutex';
import { PanicCell } from '#model/shared-memory/panic';
import { RwLock } from '#model/shared-memory/rwlock';
import { installSeam } from '#model/shared-memory/step';
import { type LockWork, lockDeclarations } from './lock-fixture.ts';

const work = workerData as LockWork; // written by the spec beside it
installSeam({ nowNs: () => Number(process.hrtime.bigint()) });
const table = new LockTable(work.locks, lockDeclarations, work.cpu, new PanicCell(work.panic));
const shared = new Float64Array(work.counter);

if (work.kind === 'mutex') {
  const mutex = new Mutex(table, 0);
  for (let i = 0; i < work.rounds; i++) {
    mutex.lock();
    shared[0] = (shared[0] as number) + 1;
    mutex.unlock();
  }
} else {
  const lock = new RwLock(table, 1);
  for (let i = 0; i < work.rounds; i++) {
    if (i % 4 === 0) {
      lock.writeLock();
      shared[0] = (shared[0] as number) + 1;
      shared[1] = (shared[1] as number) + 1;
      lock.writeUnlock();
    } else {
      lock.readLock();
      if (shared[0] !== shared[1]) shared[2] = (shared[2] as number) + 1; // a reader saw a writer's half
      lock.readUnlock();
    }
  }
}
parentPort?.postMessage({ done: true });
