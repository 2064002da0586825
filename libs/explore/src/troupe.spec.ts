import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { shipped } from '../test-support/explore.ts';
import { actorWord } from './control.ts';
import type { Litmus } from './litmus.ts';
import { loadLitmus } from './load-litmus.ts';
import { TimedScheduler } from './schedulers/timed.ts';
import { Troupe } from './troupe.ts';

// The coordinator may be any thread that can block; a spec's can.
describe('a troupe', () => {
  let test: Litmus;
  let troupe: Troupe;

  beforeAll(async () => {
    test = await loadLitmus(shipped('flush-before-free'));
    troupe = await Troupe.start(test, shipped('flush-before-free'), () => {});
  });
  afterAll(() => troupe.stop());

  it('plays one schedule 500 times with one trace hash', () => {
    troupe.attach('flushed', { kind: 'random' });
    troupe.scheduler?.learn([30, 3]);
    const hashes = new Set(Array.from({ length: 500 }, () => troupe.play({ seed: 77 }).hash));
    expect(hashes.size).toBe(1);
    troupe.check();
  });

  it('takes no call for its turn that comes when it is another’s', async () => {
    troupe.attach('flushed', { kind: 'random' });
    troupe.scheduler?.learn([30, 3]);
    const { words } = troupe.control;
    const over = new Int32Array(new SharedArrayBuffer(4));
    const caller = new Worker(
      `const { words, go, over } = require('node:worker_threads').workerData;
       while (Atomics.load(over, 0) === 0) Atomics.store(words, go, 1);`,
      { eval: true, workerData: { words, go: troupe.control.actor(0) + actorWord.go, over } },
    );
    await once(caller, 'online');
    const hashes = new Set(Array.from({ length: 500 }, () => troupe.play({ seed: 77 }).hash));
    Atomics.store(over, 0, 1);
    await once(caller, 'exit');
    expect(hashes.size).toBe(1);
  });

  it('plays different schedules for different seeds', () => {
    const hashes = new Set(Array.from({ length: 500 }, (_, seed) => troupe.play({ seed }).hash));
    expect(hashes.size).toBeGreaterThan(20);
  });

  it('gives the same virtual nanoseconds each time in the timed world, and more where a device slows a flush', () => {
    const times = (variant: string): number[] => {
      troupe.attach(variant, { kind: 'timed' });
      troupe.play();
      const { scheduler } = troupe;
      return scheduler instanceof TimedScheduler ? [...scheduler.clocks.slice(0, 2)] : [];
    };
    const [flushed, again, lost] = [times('flushed'), times('flushed'), times('lost')];
    expect(again).toEqual(flushed);
    expect(flushed[0]).toBeGreaterThan((lost[0] ?? 0) + 500);
  });
});
