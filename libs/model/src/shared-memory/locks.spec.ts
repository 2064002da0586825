import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { type LockWork, lockDeclarations } from '../../test-support/lock-fixture.ts';
import { LockTable } from './lock-table.ts';
import { Mutex } from './mutex.ts';
import { HostPanic, PanicCell } from './panic.ts';
import { RwLock } from './rwlock.ts';

const CPUS = 4;
const buffers = () => ({
  locks: new SharedArrayBuffer(LockTable.bytes(lockDeclarations.length, CPUS)),
  panic: new SharedArrayBuffer(PanicCell.bytes()),
  counter: new SharedArrayBuffer(32),
});

function run(work: LockWork): Promise<void> {
  const worker = new Worker(new URL('../../test-support/lock-worker.ts', import.meta.url), { workerData: work });
  return new Promise((resolve, reject) => {
    worker.once('error', reject);
    worker.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`exit ${code}`))));
  });
}

const table = (b: ReturnType<typeof buffers>, cpu = 0): LockTable =>
  new LockTable(b.locks, lockDeclarations, cpu, new PanicCell(b.panic));

describe('locks', () => {
  it('a mutex lets one thread at a time count without atomics', async () => {
    const b = buffers();
    const rounds = 20_000;
    await Promise.all([0, 1, 2].map((cpu) => run({ kind: 'mutex', cpu, rounds, ...b })));
    expect(new Float64Array(b.counter)[0]).toBe(3 * rounds);
    expect(table(b).profile()[0]?.lockCnt).toBe(3 * rounds);
  });

  it('a reader never sees a writer half done, and neither side starves', async () => {
    const b = buffers();
    const rounds = 8_000;
    await Promise.all([0, 1, 2].map((cpu) => run({ kind: 'rwlock', cpu, rounds, ...b })));
    const [first, second, torn] = new Float64Array(b.counter);
    expect([first, second, torn]).toEqual([(3 * rounds) / 4, (3 * rounds) / 4, 0]);
  });

  it('taking a lower level than the current one is a host panic that names both locks', () => {
    const b = buffers();
    const t = table(b);
    const pod = new Mutex(t, 2);
    const p2m = new RwLock(t, 1);
    pod.lock();
    expect(() => p2m.writeLock()).toThrow(HostPanic);
    expect(new PanicCell(b.panic).message()).toBe(
      'mm locking order violation: 48 > 16\ncpu0 wants p2m(d1) while holding {pod(d1)}',
    );
  });

  it("dom0's p2m may be taken under a guest's locks, thanks to its bias", () => {
    const b = buffers();
    const t = table(b);
    const pod = new Mutex(t, 2);
    const dom0P2m = new RwLock(t, 3);
    pod.lock();
    dom0P2m.writeLock();
    dom0P2m.writeUnlock();
    pod.unlock();
    expect(t.heldCount(0)).toBe(0);
    expect(t.level).toBe(0);
  });

  it('a non-recursive lock taken twice panics; the p2m write lock recurses', () => {
    const b = buffers();
    const t = table(b);
    const p2m = new RwLock(t, 1);
    p2m.writeLock();
    p2m.writeLock();
    expect(p2m.writeDepth).toBe(2);
    p2m.writeUnlock();
    expect(p2m.writeHeld).toBe(true);
    p2m.writeUnlock();
    expect(p2m.writeHeld).toBe(false);
    const heap = new Mutex(t, 0);
    heap.lock();
    expect(() => heap.lock()).toThrow('mm lock already held: heap by cpu0');
  });

  it('a thread that waits for a lock whose host has panicked stops instead of hanging', () => {
    const b = buffers();
    const owner = new Mutex(table(b, 1), 0);
    owner.lock();
    expect(() => new PanicCell(b.panic).panic('broken')).toThrow('broken');
    expect(() => new Mutex(table(b, 0), 0).lock()).toThrow(HostPanic);
  });
});
