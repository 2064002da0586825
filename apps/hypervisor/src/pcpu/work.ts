// What the main thread and a pCPU thread say to each other. Plain data for postMessage.

import type { Violation } from '#model/host';
import type { Answer, Call } from '#model/hypercall/calls';
import type { BlockedOn, ContinuationState } from '#model/hypercall/continuation';

/** A vCPU's multicall, from the first call that is not answered yet. */
export interface WorkItem {
  readonly id: number;
  readonly domid: number;
  readonly incarnation: number;
  readonly vcpu: number;
  /** The calls that are not answered yet. */
  readonly calls: readonly Call[];
  /** Where the first of them stopped in an earlier slice. */
  readonly state: ContinuationState | null;
}

export type WorkEnd =
  | { readonly end: 'done' }
  /** Wants a pCPU again: a slice is over, or the first call goes on from `state`. */
  | { readonly end: 'continue'; readonly state: ContinuationState | null }
  | { readonly end: 'blocked'; readonly on: BlockedOn; readonly state: ContinuationState | null }
  /** The domain is paused. */
  | { readonly end: 'held'; readonly state: ContinuationState | null }
  /** The domain is no more, or does not run any more. */
  | { readonly end: 'gone' };

export type WorkResult = WorkEnd & {
  readonly id: number;
  /** In order, for the first calls of the item. */
  readonly answers: readonly Answer[];
  /** pCPU time of this slice. */
  readonly us: number;
};

/** [sequence, text]: lines of all threads are put in order by the sequence. */
export type ConsoleLine = readonly [number, string];

/** A span for the trace: start and length in µs of the process's clock, who, and what. */
export interface Span {
  readonly tsUs: number;
  readonly durUs: number;
  readonly domid: number;
  readonly vcpu: number;
  readonly pcpu: number;
  readonly op: string;
  readonly calls: number;
  readonly rc: number;
}

export interface Reports {
  readonly lines?: readonly ConsoleLine[];
  readonly violations?: readonly (Violation & { readonly tsUs: number })[];
}

export type FromPcpu = Reports & {
  /** JSON of WorkResult[]: answers are plain data, and text crosses threads in half the time of a structured clone. */
  readonly results?: string;
  readonly spans?: readonly Span[];
  readonly panic?: { readonly text: string; readonly stack: string };
};

/** Items as JSON for the same reason, or as objects where a call holds a binary list of frames. */
export type ToPcpu = { readonly text: string } | { readonly items: readonly WorkItem[] };

const isBinary = (value: unknown): boolean => {
  if (typeof value !== 'object' || value === null) return false;
  if ('frames' in value) return ArrayBuffer.isView(value.frames) || isBinary(value.frames);
  return Array.isArray(value) && value.some(isBinary);
};

const holdsBinary = (call: Call): boolean => {
  for (const value of Object.values(call)) if (typeof value === 'object' && isBinary(value)) return true;
  return false;
};

export const packItems = (items: readonly WorkItem[]): ToPcpu =>
  items.some(({ calls }) => calls.some(holdsBinary)) ? { items } : { text: JSON.stringify(items) };

// Both ends are of one version, and what crosses was made by the functions beside these.
export const unpackItems = (message: ToPcpu): readonly WorkItem[] =>
  'items' in message ? message.items : (JSON.parse(message.text) as WorkItem[]);
export const packResults = (results: readonly WorkResult[]): string => JSON.stringify(results);
export const unpackResults = (text: string): readonly WorkResult[] => JSON.parse(text) as WorkResult[];
