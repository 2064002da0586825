// What a litmus test is: a start, a few actors, what must never happen, and for each variant the verdict that is expected. This
// is the vocabulary of litmus/*.ts (docs/litmus.md); it knows nothing of schedulers and threads. `litmus()` only keeps what it
// is given: what is wrong with a test is said by litmus-checks.ts, with its place.
import type { ModelPolicies } from '#model/host-config';
import type { StepKindName } from '#model/shared-memory/step';
import type { Machine } from './machine.ts';
import type { PaperSpec } from './paper/spec.ts';
import type { Setup, World } from './world.ts';

/** What the start hands to the actors: numbers, strings and lists of them, since each actor has a thread of its own. */
export type Names = Readonly<Record<string, number | string | readonly number[]>>;

/** One thing that an actor does. */
export type Operation<N extends Names> = (w: World, names: N) => void;

export interface Actor<N extends Names> {
  /** Software is preempted at a price, hardware runs at any time. */
  readonly kind: 'software' | 'hardware';
  /** One thing, or one after the other: a counterexample is shown with as few of them as it needs. */
  readonly does: Operation<N> | readonly Operation<N>[];
}

export interface Expectation {
  readonly verdict: 'violates' | 'holds';
  /** For `violates`: the invariant that at least one schedule breaks. */
  readonly invariant?: string;
}

export interface Variant<N extends Names> {
  /** One sentence: what is different here. */
  readonly what: string;
  readonly policies?: Partial<ModelPolicies>;
  readonly machine?: Machine;
  /** Actors that replace those of the same name. */
  readonly actors?: Readonly<Record<string, Actor<N>>>;
  readonly expect: Expectation;
}

/** Which published bug a test is a row for, where it is one of the advisory bench (litmus/advisories). */
export interface Advisory {
  /** As the bench's table names it: `XSA-346a`, `PoD-M2P`, `S1b`. */
  readonly id: string;
  /** What it takes: an argument or a fault; several actors in some order; a switch in the middle of one. */
  readonly kind: 'sequential' | 'order' | 'race';
  /** Whether its actors are the model's operations or a step program below the model's grain. */
  readonly grain: 'model' | 'steps';
  /** Of a step program: what of reality is below the model's grain. */
  readonly why?: string;
  /** A sentence beneath the table. */
  readonly note?: string;
}

export interface Litmus<N extends Names = Names> {
  /** A sentence. */
  readonly title: string;
  /** The advisory, commit or story. */
  readonly source: string;
  /** What the host has, where it differs from the usual one. */
  readonly machine?: Machine;
  /** Before the actors begin. */
  start(s: Setup): N;
  readonly actors: Readonly<Record<string, Actor<N>>>;
  /** The invariants this test is about; all others are checked as well. */
  readonly never: readonly string[];
  /** Invariants of its own that its actors judge, with their meaning. */
  readonly invariants?: Readonly<Record<string, string>>;
  readonly variants: Readonly<Record<string, Variant<N>>>;
  /**
   * Each step that can fail does so in turn, in every variant: all kinds that can, or these. A variant then violates if it does under
   * one of the failures (or none), and holds if it does under all.
   */
  readonly faults?: 'each' | readonly StepKindName[];
  /** Values that the start and the actors ask for by name (`w.arg`): every combination is searched. */
  readonly arguments?: Readonly<Record<string, readonly number[]>>;
  readonly advisory?: Advisory;
  /** Of a step program (step-program.ts). */
  readonly paper?: PaperSpec;
}

/** A litmus test: the default export of a file in litmus/. */
export const litmus = <N extends Names>(test: Litmus<N>): Litmus<N> => test;

export const violates = (invariant: string): Expectation => ({ verdict: 'violates', invariant });
export const holds: Expectation = { verdict: 'holds' };
