// Threads for the races of a mediated GPU (gpu-worker.ts): the GPU that never stops, the mediator with a CPU of its own, and a
// second vCPU that announces and withdraws a root. The words are shared between spec and threads.
import { Worker } from 'node:worker_threads';
import type { HostShared } from '#model/host';

export interface GpuWork {
  readonly shared: HostShared;
  readonly role: 'engine' | 'mediator' | 'roots';
  readonly cpu: number;
  readonly domid: number;
  /** engine: pages [0, pages) of the guest's graphics memory; roots: the root page's gfn. */
  readonly pages: number;
  readonly control: SharedArrayBuffer;
}

export const gpuWord = {
  stop: 0,
  started: 1,
  accesses: 2,
  faults: 3,
  freed: 4,
  foreign: 5,
  otherViolations: 6,
  /** roots: how often it shall have announced, and has. */
  wanted: 7,
  done: 8,
} as const;
export type GpuWord = keyof typeof gpuWord;

export interface GpuThread {
  readonly words: Int32Array<SharedArrayBuffer>;
  read(word: GpuWord): number;
  stop(): Promise<void>;
}

export async function startGpuThread(work: Omit<GpuWork, 'control'>): Promise<GpuThread> {
  const control = new SharedArrayBuffer(64);
  const words = new Int32Array(control);
  const worker = new Worker(new URL('./gpu-worker.ts', import.meta.url), {
    workerData: { ...work, control },
    execArgv: ['--conditions=source'],
  });
  const ended = new Promise<void>((resolve, reject) => {
    worker.once('exit', () => resolve());
    worker.once('error', reject);
  });
  const running = Atomics.waitAsync(words, gpuWord.started, 0);
  await Promise.race([running.async ? running.value : null, ended]);
  return {
    words,
    read: (word) => Atomics.load(words, gpuWord[word]),
    stop: async () => {
      Atomics.store(words, gpuWord.stop, 1);
      Atomics.notify(words, gpuWord.wanted);
      await ended;
    },
  };
}
