// What a step program declares of its paper host, as the explorer keeps it beside the test.
import type { Steps } from './steps.ts';

/** true, or a sentence that says what is wrong. */
export type Predicate = (p: Steps) => true | string;

export interface PaperSpec {
  /** By name: a mutex, one that its holder may take again, or a fair reader/writer lock. */
  readonly locks: Readonly<Record<string, LockKind>>;
  /** Named numbers with their values at the start. */
  readonly words: Readonly<Record<string, number>>;
  /** Tables beside `p2m(d)` and `io(d)`. */
  readonly tables: readonly string[];
  /** Tables of which walkers see the copy in memory, CPUs the one in their caches. */
  readonly nonCoherent: readonly string[];
  /** IOTLB entries are looked up by device instead of by domain id. */
  readonly iotlbByDevice: boolean;
  /** A unit remembers that there was nothing (caching mode). */
  readonly cachesAbsent: boolean;
  readonly always: Readonly<Record<string, Predicate>>;
  readonly atRest: Readonly<Record<string, Predicate>>;
  /** Before the actors begin. */
  start(p: Steps): void;
}

export type LockKind = 'mutex' | 'recursive' | 'fair';
