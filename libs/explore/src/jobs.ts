// What the explorer's coordinating thread can be asked for, and what it answers: plain data between it and whoever started it.
import type { Problem } from '#formats/operator-error';
import type { RowOptions, RowVariant } from './bench-row.ts';
import type { DifferentialReport } from './differential.ts';
import type { FaultSweepReport } from './fault-sweep.ts';
import type { Advisory } from './litmus.ts';
import type { Mutant } from './mutants.ts';
import type { ReplayReport } from './replay.ts';
import type { Recorded } from './replay-string.ts';
import type { TeethReport } from './teeth.ts';
import type { TimedReport } from './timed.ts';
import type { SearchOptions, VariantReport } from './variant-search.ts';

export type Job =
  | { readonly is: 'search'; readonly variants: readonly string[] | null; readonly options: SearchOptions }
  | { readonly is: 'replay'; readonly recorded: Recorded }
  | { readonly is: 'fault-sweep'; readonly variants: readonly string[] | null }
  | { readonly is: 'differential'; readonly variants: readonly string[] | null }
  | { readonly is: 'timed'; readonly variants: readonly string[] | null }
  | { readonly is: 'row'; readonly variants: readonly string[] | null; readonly options: RowOptions }
  | {
      readonly is: 'teeth';
      readonly variants: readonly string[] | null;
      readonly seconds: number;
      readonly stuck: readonly Mutant[];
    };

export interface ExplorerData {
  /** Absolute. */
  readonly path: string;
  /** As the user named it, and as replay strings will. */
  readonly shownPath: string;
  readonly job: Job;
}

/** What the test says of itself. */
export interface TestFacts {
  readonly title: string;
  readonly source: string;
  readonly never: readonly string[];
  readonly actors: readonly string[];
  /** How many of them are hardware. */
  readonly hardware: number;
  readonly advisory: Advisory | null;
  readonly variants: readonly string[];
}

/** A mistake of the operator: a message and what to do about it. */
export interface Mistake {
  readonly message: string;
  readonly remedy: string;
  /** In the test's file, each with its place: then they say it all. */
  readonly problems?: readonly [Problem, ...Problem[]];
  /** Exit status: 64 where a file or a string is wrong, 2 where no verdict could be found. */
  readonly exitCode: 2 | 64;
}

export type FromExplorer =
  | { readonly is: 'control'; readonly control: SharedArrayBuffer }
  | { readonly is: 'facts'; readonly facts: TestFacts }
  | { readonly is: 'begins'; readonly variant: string }
  | { readonly is: 'variant'; readonly report: VariantReport }
  | { readonly is: 'replayed'; readonly report: ReplayReport }
  | { readonly is: 'compared'; readonly report: DifferentialReport }
  | { readonly is: 'swept'; readonly report: FaultSweepReport }
  | { readonly is: 'timed'; readonly report: TimedReport }
  | { readonly is: 'row'; readonly variant: RowVariant }
  | { readonly is: 'mutant'; readonly mutant: Mutant }
  | { readonly is: 'teeth'; readonly report: TeethReport }
  | { readonly is: 'mistake'; readonly mistake: Mistake }
  | { readonly is: 'done' };
