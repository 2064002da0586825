// Entry of a DMA thread. No Nest, no Redis.
import { dmaCpu } from '#model/host';
import { runModelThread } from '../thread-entry.ts';
import { DmaLoop } from './dma-loop.ts';

runModelThread(
  ({ shared, index }) => dmaCpu(shared.config, index),
  ({ host, index, words, reports, port, record }) =>
    new DmaLoop(host, index, words, reports, (message) => port.postMessage(message), record),
);
