// Entry of a pCPU thread: attaches to the host, runs its loop, and says why when it dies. No Nest, no Redis.
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import type { HostShared } from '#model/host';
import type { FaultPlan } from '#model/shared-memory/fault-plan';
import { SharedWords } from '../shared-words.ts';
import { attachThread, ReportBuffer } from '../thread-setup.ts';
import { type PcpuInbox, PcpuLoop } from './pcpu-loop.ts';
import type { ToPcpu } from './work.ts';

export interface PcpuThreadData {
  readonly shared: HostShared;
  readonly cpu: number;
  readonly words: SharedArrayBuffer;
  readonly plan: FaultPlan;
  readonly record: boolean;
}

if (!parentPort) throw new Error('pcpu-thread is a worker thread');
const port = parentPort;
const data = workerData as PcpuThreadData; // handed over by PcpuPool, which alone starts this file

const words = new SharedWords(data.words);
const reports = new ReportBuffer(words);
const host = attachThread(data.shared, data.cpu, data.plan, reports);
const inbox: PcpuInbox = {
  receive: () => (receiveMessageOnPort(port)?.message as ToPcpu | undefined) ?? null, // only PcpuPool posts here
  post: (message) => port.postMessage(message),
};

try {
  new PcpuLoop(host, words, inbox, reports, data.record).run();
} catch (error) {
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  inbox.post({ ...reports.take(), panic: { text: message, stack: stack ?? '' } });
}
