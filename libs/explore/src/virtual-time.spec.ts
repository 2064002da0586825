import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { LockTable } from '#model/shared-memory/lock-table';
import { type ContenderWork, declarations } from '../test-support/virtual-contender-worker.ts';
import { VirtualTime } from './virtual-time.ts';

interface Held {
  readonly who: number;
  readonly from: number;
  readonly to: number;
}

/** vCPU 0 only leads; the others hold the lock for `holds[i]` ns, rest for `restNs`, `rounds` times. */
async function play(holds: readonly number[], restNs: number, rounds: number): Promise<Held[]> {
  const participants = holds.length + 1;
  const shared = {
    participants,
    locks: new SharedArrayBuffer(LockTable.bytes(declarations.length, participants)),
    time: new SharedArrayBuffer(VirtualTime.bytes(participants)),
    log: new SharedArrayBuffer(8 * (1 + 3 * holds.length * rounds)),
  };
  const leader = new VirtualTime(shared.time, participants, 0, [shared.locks], 0);
  leader.reset();
  const ended = holds.map((holdNs, i) => {
    const workerData: ContenderWork = { ...shared, me: i + 1, rounds, holdNs, restNs };
    const entry = new URL('../test-support/virtual-contender-worker.ts', import.meta.url);
    const worker = new Worker(entry, { workerData, execArgv: ['--conditions=source'] });
    return new Promise<void>((resolve, reject) => {
      worker.once('error', reject);
      worker.once('exit', () => resolve());
    });
  });
  leader.lead(holds.length);
  leader.leave();
  await Promise.all(ended);
  const log = new Float64Array(shared.log);
  return Array.from({ length: log[0] as number }, (_, i) => {
    const [who = 0, from = 0, to = 0] = log.subarray(1 + 3 * i, 4 + 3 * i);
    return { who, from, to };
  });
}

describe('virtual time', () => {
  it('threads that contend for a lock hold it one after the other, in the same order each time, and lose no time between', async () => {
    const [first, second] = [await play([1000, 300, 300], 400, 40), await play([1000, 300, 300], 400, 40)];
    expect(second).toEqual(first);
    expect(first).toHaveLength(120);
    for (const [i, held] of first.entries()) {
      const before = first[i - 1];
      if (before) expect(held.from).toBeGreaterThanOrEqual(before.to - 1);
    }
    // The lock is never free while somebody waits: three vCPUs with little rest keep it busy until the first has ended.
    const busy = first.slice(0, 60);
    const idle = busy.reduce((sum, held, i) => sum + Math.max(0, held.from - (busy[i - 1]?.to ?? held.from)), 0);
    expect(idle).toBeLessThan(100 * 20);
  });

  it('who came first goes first: nobody is passed twice by the same one', async () => {
    const held = await play([500, 500, 500, 500], 50, 30);
    // They begin one after the other, and end so.
    const whole = held.slice(16, 96);
    for (let i = 0; i + 4 <= whole.length; i += 4) {
      expect(new Set(whole.slice(i, i + 4).map(({ who }) => who)).size).toBe(4);
    }
  });
});
