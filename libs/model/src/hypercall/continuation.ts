// How a call ends, and what it keeps between its slices. Between slices no lock is held and nothing is remembered but plain
// numbers: a resumed call finds its domain again by number and checks everything anew.
import type { Domain } from '../domain/domain.ts';
import type { Answer } from './calls.ts';

/** Who calls: identity comes from the queue, never from the payload. `preempt` = Xen's hypercall_preempt_check. */
export interface Caller {
  readonly domain: Domain;
  readonly vcpu: number;
  preempt(): boolean;
}

/** Plain JSON. It never leaves the hypervisor, so no guest can forge it. */
export interface ContinuationState {
  /** Units done: extents, frames, entries, commands, by op. */
  readonly at: number;
  /** Stage of a call that has several. */
  readonly stage?: number;
  /** Results so far, for calls that answer with data. */
  readonly values?: readonly number[];
}

/**
 * What a call waits for without a CPU. `device`: that job of the device's queue is done. `unpause`: the caller's own domain
 * is paused, shut down or dying; resume when it may run again (or never). `lend`: until that domain's lending events are no
 * longer `seen`: a page was lent to it, or one of its borrowers faulted. `gpu`: until the news of that shared GPU are no longer
 * `seen`: a request, an answer, the end of a job.
 */
export type BlockedOn =
  | { readonly on: 'device'; readonly sbdf: number; readonly job: number }
  | { readonly on: 'unpause'; readonly domid: number }
  | { readonly on: 'lend'; readonly domid: number; readonly seen: number }
  | { readonly on: 'gpu'; readonly gpu: number; readonly seen: number };

export type Outcome =
  | { readonly end: 'done'; readonly answer: Answer }
  | { readonly end: 'continue'; readonly state: ContinuationState | null }
  | { readonly end: 'blocked'; readonly on: BlockedOn; readonly state: ContinuationState | null };

export const done = (answer: Answer): Outcome => ({ end: 'done', answer });
export const rc = (value: number): Outcome => ({ end: 'done', answer: { rc: value } });
export const goOn = (state: ContinuationState | null): Outcome => ({ end: 'continue', state });
export const blocked = (on: BlockedOn, state: ContinuationState | null): Outcome => ({ end: 'blocked', on, state });
