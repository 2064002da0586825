import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { bootWithDom0, GPU, ioDomain, ownFrames, policies } from '../../../test-support/iommu-fixture.ts';
import { smallConfig } from '../../../test-support/p2m-fixture.ts';
import type { IommuUnitConfig } from '../../host-config.ts';
import { installSeam, stepKind } from '../../shared-memory/step.ts';
import { assignDevice } from '../assign.ts';
import { DmaThread } from '../dma.ts';
import { IOMMUF_readable, IOMMUF_writable } from '../flags.ts';
import { iommuLegacyMap, iommuLegacyUnmap } from '../iommu.ts';
import type { Unit } from '../iommu-state.ts';
import { bank } from '../translation-cache.ts';
import { type Descriptor, ofDomain, ofPages } from './descriptor.ts';
import { InvalidationQueue } from './invalidation-queue.ts';

const RW = IOMMUF_readable | IOMMUF_writable;
let carriedOut = 0;
installSeam({
  step: (kind) => {
    if (kind === stepKind.hwFlush) carriedOut++;
    return 0;
  },
});

function host(rest: Partial<IommuUnitConfig> = {}) {
  const [unit] = smallConfig().units;
  const { h, log } = bootWithDom0({
    policies: policies(),
    pcpus: 4,
    units: [{ ...(unit as IommuUnitConfig), ...rest }], // the small host has one unit
  });
  carriedOut = 0;
  return { h, log, unit: h.iommu.units[0] as Unit };
}

describe('the invalidation queue', () => {
  it('carries descriptors out in order, and a wait is over when the one behind its own request was', () => {
    const { h } = host();
    const done: Descriptor[] = [];
    const queue = new InvalidationQueue(new SharedArrayBuffer(InvalidationQueue.bytes(4)), 0, 4, 0, (d) =>
      done.push(d),
    );
    queue.submit(ofPages(3, 512, 9), 0);
    queue.submit(ofDomain(4), 1);
    expect([queue.head, queue.tail, done]).toEqual([0, 4, []]);
    queue.wait(1, h.lockTable, () => {});
    expect(done).toEqual([ofPages(3, 512, 9), ofDomain(4)]);
    expect([queue.head, queue.tail]).toEqual([4, 4]);
    // The first CPU's status was written on the way.
    queue.wait(0, h.lockTable, () => {});
    expect(done).toHaveLength(2);
  });

  it('goes round its ring', () => {
    const { h } = host();
    let count = 0;
    const queue = new InvalidationQueue(new SharedArrayBuffer(InvalidationQueue.bytes(2)), 0, 2, 0, () => count++);
    for (let i = 0; i < 1000; i++) {
      queue.submit(ofDomain(i), 0);
      queue.wait(0, h.lockTable, () => {});
    }
    expect([count, queue.head === queue.tail, queue.tail]).toEqual([1000, true, 2000 % 256]);
  });

  it('is used for every flush: a request and a wait descriptor each', () => {
    const { h, unit } = host();
    const d = ioDomain(h, 1);
    ownFrames(h, d, 0x1000, 8);
    iommuLegacyMap(h, d, 5, 0x1000, 1, RW);
    expect(assignDevice(h, d, GPU, 0)).toBe(0);
    carriedOut = 0;
    iommuLegacyUnmap(h, d, 5, 1);
    expect([carriedOut, unit.queue?.head]).toEqual([2, unit.queue?.tail]);
    expect(new DmaThread(h, 0).transaction(GPU, 5, 'w', 1)).toBe(5);
  });

  it('from several CPUs at once: no wait returns before its own flush (XSA-373)', async () => {
    const { h, unit } = host();
    const counts = new SharedArrayBuffer(8);
    const rounds = 3000;
    const workers = [0, 1, 2].map(
      (cpu) =>
        new Worker(new URL('../../../test-support/flush-worker.ts', import.meta.url), {
          workerData: { shared: h.shared, cpu, rounds, counts },
          execArgv: ['--conditions=source'],
        }),
    );
    await Promise.all(
      workers.map((worker) => new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject))),
    );
    expect([...new Int32Array(counts)]).toEqual([3 * rounds, 0]);
    expect(unit.queue?.head).toBe(unit.queue?.tail);
  });
});

it('a unit without a queue is told by register, with the same effect', () => {
  const { h, unit } = host({ queuedInvalidation: false });
  expect(unit.queue).toBeNull();
  const d = ioDomain(h, 1);
  ownFrames(h, d, 0x1000, 8);
  iommuLegacyMap(h, d, 5, 0x1000, 1, RW);
  expect(assignDevice(h, d, GPU, 0)).toBe(0);
  const dma = new DmaThread(h, 0);
  expect(dma.transaction(GPU, 5, 'w', 1)).toBe(0);
  iommuLegacyUnmap(h, d, 5, 1);
  expect([carriedOut, dma.transaction(GPU, 5, 'w', 1)]).toEqual([0, 5]);
  expect(unit.cache.lookup(bank.leaf4k, d.domid, 5)).toBe(-1);
});

it('a unit with a write buffer has it flushed where nothing is to be invalidated', () => {
  const { h } = host({ writeBufferFlush: true });
  const d = ioDomain(h, 1);
  ownFrames(h, d, 0x1000, 8);
  expect(assignDevice(h, d, GPU, 0)).toBe(0);
  iommuLegacyMap(h, d, 5, 0x1000, 1, RW);
  expect([h.counters.read('iommu.flushWriteBuffer'), h.counters.read('iommu.flushSkipped')]).toEqual([1, 0]);
});
