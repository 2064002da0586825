// What the entries of pCPU and DMA threads have in common: the data they are started with, attaching to the host, and the last
// word of a thread that dies. Knows neither loop.
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import type { Host, HostShared } from '#model/host';
import type { FaultPlan } from '#model/shared-memory/fault-plan';
import { SharedWords } from './shared-words.ts';
import { attachThread, ReportBuffer } from './thread-setup.ts';

/** `index`: which of its kind the thread is. */
export interface ModelThreadData {
  readonly shared: HostShared;
  readonly index: number;
  readonly words: SharedArrayBuffer;
  readonly lockLog: SharedArrayBuffer;
  readonly plan: FaultPlan;
  readonly record: boolean;
}

export interface ModelThread {
  readonly host: Host;
  readonly index: number;
  readonly words: SharedWords;
  readonly reports: ReportBuffer;
  readonly port: MessagePort;
  readonly record: boolean;
}

/** Runs `loop` as this thread, on the CPU that `cpuOf` names; what it throws is the host's panic. */
export function runModelThread(
  cpuOf: (data: ModelThreadData) => number,
  loop: (thread: ModelThread) => { run(): void },
): void {
  if (!parentPort) throw new Error('a model thread is a worker thread');
  const port = parentPort;
  const data = workerData as ModelThreadData; // handed over by ThreadPoolService, which alone starts these threads
  const words = new SharedWords(data.words);
  const reports = new ReportBuffer(words);
  const host = attachThread(data.shared, cpuOf(data), data.plan, reports, data.lockLog);
  try {
    loop({ host, index: data.index, words, reports, port, record: data.record }).run();
  } catch (error) {
    const { message, stack } = error instanceof Error ? error : new Error(String(error));
    port.postMessage({ ...reports.take(), panic: { text: message, stack: stack ?? '' } });
  }
}
