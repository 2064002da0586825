// Entry of a pCPU thread. No Nest, no Redis.
import { receiveMessageOnPort } from 'node:worker_threads';
import { runModelThread } from '../thread-entry.ts';
import { PcpuLoop } from './pcpu-loop.ts';
import type { FromPcpu, ToPcpu } from './work.ts';

runModelThread(
  ({ index }) => index,
  ({ host, words, reports, port, record }) => {
    const inbox = {
      receive: () => (receiveMessageOnPort(port)?.message as ToPcpu | undefined) ?? null, // only ThreadPoolService posts here
      post: (message: FromPcpu) => port.postMessage(message),
    };
    return new PcpuLoop(host, words, inbox, reports, record);
  },
);
