// A device of the IOMMU's specs: a thread that keeps reading and writing pages through the IOMMU until it is told to stop.
import { workerData } from 'node:worker_threads';
import { Host } from '#model/host';
import { DmaThread } from '#model/iommu/dma';
import { type DmaWork, dmaWord } from './dma-fixture.ts';

const work = workerData as DmaWork; // written by the spec that starts this thread
const words = new Int32Array(work.control);
const h = new Host(work.shared, work.cpu, {
  printk: () => {},
  violation: ({ invariant }) => {
    Atomics.add(words, invariant === 'noDmaToFreedFrame' ? dmaWord.freed : dmaWord.otherViolations, 1);
  },
});
const dma = new DmaThread(h, work.thread);
let random = work.seed;

Atomics.store(words, dmaWord.started, 1);
Atomics.notify(words, dmaWord.started);
while (Atomics.load(words, dmaWord.stop) === 0) {
  for (let i = 0; i < 64; i++) {
    random = (Math.imul(random, 1103515245) + 12345) & 0x7fffffff;
    const dfn = work.first + ((random >>> 8) % work.count);
    if (dfn === work.except) continue;
    const reason = dma.transaction(work.sbdf, dfn, work.kind, random);
    if (reason !== 0) Atomics.add(words, dmaWord.faults, 1);
    else if (work.kind === 'r' && dma.tag !== dfn + work.tagOffset) Atomics.add(words, dmaWord.wrongFrame, 1);
    Atomics.add(words, dmaWord.transactions, 1);
  }
}
