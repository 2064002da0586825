// Two pCPUs for specs of CPU flushes, as threads that meet at words of shared memory: a vCPU that stalls in guest mode between
// its TLB look-up and its access, and a CPU that takes the page away. No clock decides anything.
import { Worker } from 'node:worker_threads';
import type { HostShared } from '#model/host';

export interface PcpuWork {
  readonly shared: HostShared;
  readonly cpu: number;
  readonly domid: number;
  readonly gfn: number;
  /** `access`: fills its TLB, then stores `tag` and stalls before it. `remove`: guest_remove_page. */
  readonly job: 'access' | 'remove';
  readonly tag: number;
  readonly control: SharedArrayBuffer;
}

export const pcpuWord = {
  /** 1: the vCPU stands in guest mode; 2: it may go on. */
  stalled: 0,
  /** 1: the remover waits for another CPU; 2: it has ended. */
  remover: 1,
  /** References of the frame dropped while the vCPU stood in guest mode. */
  droppedEarly: 2,
  violations: 3,
  /** accessResult of the stalled store. */
  result: 4,
} as const;

export interface Pcpu {
  readonly ended: Promise<void>;
}

export function startPcpu(work: PcpuWork): Pcpu {
  const worker = new Worker(new URL('./pcpu-worker.ts', import.meta.url), {
    workerData: work,
    execArgv: ['--conditions=source'],
  });
  const ended = new Promise<void>((resolve, reject) => {
    worker.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`pCPU ${work.cpu} ended with ${code}`))));
    worker.once('error', reject);
  });
  return { ended };
}

/** Until the word is no longer `value`; a pCPU that fails ends the wait with its error. */
export async function until(
  words: Int32Array<SharedArrayBuffer>,
  word: keyof typeof pcpuWord,
  value: number,
  ...cpus: Pcpu[]
): Promise<void> {
  const change = Atomics.waitAsync(words, pcpuWord[word], value);
  if (change.async) await Promise.race([change.value, ...cpus.map(({ ended }) => ended)]);
}

export function tell(words: Int32Array<SharedArrayBuffer>, word: keyof typeof pcpuWord, value: number): void {
  Atomics.store(words, pcpuWord[word], value);
  Atomics.notify(words, pcpuWord[word]);
}
