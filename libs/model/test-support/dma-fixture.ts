// Starts devices (dma-worker.ts) for specs and watches what they met. The words are shared between spec and threads.
import { Worker } from 'node:worker_threads';
import type { Sbdf } from '#model/frames/addresses';
import type { HostShared } from '#model/host';

export interface DmaWork {
  readonly shared: HostShared;
  readonly cpu: number;
  readonly thread: number;
  readonly sbdf: Sbdf;
  /** Pages [first, first + count) but `except`. */
  readonly first: number;
  readonly count: number;
  readonly except: number;
  readonly kind: 'r' | 'w';
  /** A read finds dfn + tagOffset in the right frame. */
  readonly tagOffset: number;
  readonly seed: number;
  readonly control: SharedArrayBuffer;
}

export const dmaWord = {
  stop: 0,
  started: 1,
  transactions: 2,
  faults: 3,
  wrongFrame: 4,
  freed: 5,
  otherViolations: 6,
} as const;

export interface Device {
  read(word: keyof typeof dmaWord): number;
  stop(): Promise<void>;
}

export async function startDevice(work: Omit<DmaWork, 'control'>): Promise<Device> {
  const control = new SharedArrayBuffer(32);
  const words = new Int32Array(control);
  const worker = new Worker(new URL('./dma-worker.ts', import.meta.url), {
    workerData: { ...work, control },
    execArgv: ['--conditions=source'],
  });
  const ended = new Promise<void>((resolve, reject) => {
    worker.once('exit', () => resolve());
    worker.once('error', reject);
  });
  const running = Atomics.waitAsync(words, dmaWord.started, 0);
  await Promise.race([running.async ? running.value : null, ended]);
  return {
    read: (word) => Atomics.load(words, dmaWord[word]),
    stop: async () => {
      Atomics.store(words, dmaWord.stop, 1);
      await ended;
    },
  };
}
