// One thread of the mediated GPU's races (gpu-race-fixture.ts).
import { workerData } from 'node:worker_threads';
import { GpuEngine } from '#model/gpu/gpu-engine';
import { GuestGpu } from '#model/gpu/guest-gpu';
import { Mediator } from '#model/gpu/mediator';
import { Host } from '#model/host';
import { portOf } from './gpu-fixture.ts';
import { type GpuWork, gpuWord } from './gpu-race-fixture.ts';

const work = workerData as GpuWork; // written by the spec that starts this thread
const words = new Int32Array(work.control);
const count = (word: keyof typeof gpuWord): void => {
  Atomics.add(words, gpuWord[word], 1);
};
const platform = {
  printk: () => {},
  violation: ({ invariant }: { readonly invariant: string }) => {
    if (invariant === 'noGpuReachIntoFreedFrame') count('freed');
    else count(invariant === 'noGpuReachIntoForeignFrame' ? 'foreign' : 'otherViolations');
  },
};
const h = new Host(work.shared, work.cpu, platform);
const [gpu] = h.gpus.all;
const d = h.domain(work.domid);
if (!gpu || !d) throw new Error('no GPU, or no guest');
const stopped = (): boolean => Atomics.load(words, gpuWord.stop) !== 0;

function runEngine(): void {
  const engine = new GpuEngine(h, gpu as NonNullable<typeof gpu>, 0); // looked at above
  const slot = (d as NonNullable<typeof d>).slot; // looked at above
  for (let i = 0; !stopped(); i++) {
    const page = i % work.pages;
    if (engine.access({ slot, context: 0, page, write: true, tag: 1000 + page }) !== 0) count('faults');
    count('accesses');
  }
}

function runMediator(): void {
  const bed = { h, log: platform as never, dom0: h.dom0, preempt: () => false, slices: 0 };
  const state = gpu as NonNullable<typeof gpu>; // looked at above
  const mediator = new Mediator(h, portOf(bed, h.dom0), state);
  const doorbell = state.requestWords.length - 1;
  while (!stopped()) {
    const rung = Atomics.load(state.requestWords, doorbell);
    if (mediator.serve() === 0) Atomics.wait(state.requestWords, doorbell, rung, 20);
  }
}

function runRoots(): void {
  const driver = new GuestGpu(h, d as NonNullable<typeof d>, gpu as NonNullable<typeof gpu>, null); // looked at above
  for (let done = 0; !stopped(); ) {
    Atomics.wait(words, gpuWord.wanted, done, 20);
    if (Atomics.load(words, gpuWord.wanted) === done) continue;
    done++;
    driver.destroyRoot(1);
    driver.createRoot(1, work.pages);
    Atomics.store(words, gpuWord.done, done);
  }
}

Atomics.store(words, gpuWord.started, 1);
Atomics.notify(words, gpuWord.started);
if (work.role === 'engine') runEngine();
else if (work.role === 'mediator') runMediator();
else runRoots();
