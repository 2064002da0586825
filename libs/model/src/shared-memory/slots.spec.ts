import { Worker } from 'node:worker_threads';
import { expect, it } from 'vitest';
import { load, type Slots } from './slots.ts';

it('a concurrent reader sees whole entries only: no torn slot in ten million reads', async () => {
  const values: [number, number] = [0x1_5555_5555 * 65536 + 0x5555, 0x0_aaaa_aaaa * 65536 + 0xaaaa];
  const slots = new SharedArrayBuffer(4096);
  const stop = new SharedArrayBuffer(8);
  const worker = new Worker(new URL('../../test-support/tear-worker.ts', import.meta.url), {
    workerData: { slots, stop, values },
  });
  const flag = new Int32Array(stop);
  Atomics.wait(flag, 1, 0, 10_000);
  const table: Slots = new Float64Array(slots);
  const seen = new Map<number, number>();
  const batch = (): void => {
    for (let i = 0; i < 1000; i++) {
      const value = load(table, 3);
      if (value !== values[0] && value !== values[1] && value !== 0) seen.set(value, (seen.get(value) ?? 0) + 1);
    }
  };
  for (let i = 0; i < 10_000; i++) batch();
  Atomics.store(flag, 0, 1);
  await worker.terminate();
  expect([...seen]).toEqual([]);
});
