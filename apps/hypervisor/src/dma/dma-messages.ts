// What a DMA thread tells the main thread. Plain data for postMessage.
import type { FaultEvent } from '#model/device/device-engine';
import type { Reports } from '../pcpu/work.ts';

export interface FinishedJob {
  readonly sbdf: number;
  readonly job: number;
}

/** One job of a device, from when its thread first saw it to its end. */
export interface JobSpan {
  readonly tsUs: number;
  readonly durUs: number;
  readonly thread: number;
  readonly sbdf: number;
  readonly job: number;
  readonly completed: number;
  readonly faults: number;
}

/** A fault that was logged, with what the tables held then. */
export type DmaFault = FaultEvent & { readonly tsUs: number };

export type FromDma = Reports & {
  readonly finished?: readonly FinishedJob[];
  readonly jobs?: readonly JobSpan[];
  readonly faults?: readonly DmaFault[];
  /** A job of a shared GPU has ended. */
  readonly gpuNews?: true;
  readonly panic?: { readonly text: string; readonly stack: string };
};
