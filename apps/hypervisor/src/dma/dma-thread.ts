// Entry of a DMA thread: attaches to the host, runs its loop, and says why when it dies. No Nest, no Redis.
import { parentPort, workerData } from 'node:worker_threads';
import { dmaCpu, type HostShared } from '#model/host';
import type { FaultPlan } from '#model/shared-memory/fault-plan';
import { SharedWords } from '../shared-words.ts';
import { attachThread, ReportBuffer } from '../thread-setup.ts';
import { DmaLoop } from './dma-loop.ts';
import type { FromDma } from './dma-messages.ts';

export interface DmaThreadData {
  readonly shared: HostShared;
  readonly thread: number;
  readonly words: SharedArrayBuffer;
  readonly plan: FaultPlan;
  readonly record: boolean;
}

if (!parentPort) throw new Error('dma-thread is a worker thread');
const port = parentPort;
const data = workerData as DmaThreadData; // handed over by ThreadPoolService, which alone starts this file

const words = new SharedWords(data.words);
const reports = new ReportBuffer(words);
const host = attachThread(data.shared, dmaCpu(data.shared.config, data.thread), data.plan, reports);
const post = (message: FromDma): void => port.postMessage(message);

try {
  new DmaLoop(host, data.thread, words, reports, post, data.record).run();
} catch (error) {
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  post({ ...reports.take(), panic: { text: message, stack: stack ?? '' } });
}
