// What a kernel's cooperative scheduler runs: one task, one bounded slice at a time, so that balloon, drivers and workloads
// interleave on one vCPU. Times are guest milliseconds.
import type { Hypercalls } from '../hypercall/calls.ts';
import type { GuestMemory } from './guest-memory.ts';
import type { GuestSink } from './guest-spec.ts';

/** What every driver and workload is given. `port` is that of the vCPU the task runs on. */
export interface TaskContext {
  readonly memory: GuestMemory;
  readonly port: Hypercalls;
  readonly sink: GuestSink;
  readonly seed: number;
  /** What the controllers of this vCPU wrote last into reserved frames. */
  readonly mailboxes: Map<number, number>;
}

export interface Task {
  readonly id: string;
  /** One slice; answers when it next wants to run (`now` = at once, Infinity = only when told). */
  step(now: number): number;
  /** Ends it: outstanding device work is waited for and its pages are freed. */
  stop(): void;
}

/** A content tag: never zero (that is an empty page), different for different inputs as far as 31 bits go. */
export function tagOf(seed: number, a: number, b: number): number {
  let x = (seed ^ Math.imul(a + 1, 0x85ebca6b) ^ Math.imul(b + 1, 0xc2b2ae35)) >>> 0;
  x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d) >>> 0;
  return x & 0x7fffffff || 1;
}
