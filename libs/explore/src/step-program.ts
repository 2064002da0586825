// A litmus test below the model's grain: its actors take the steps of the advisories' vocabulary (paper/steps.ts) on a small paper
// host. Everything else – schedulers, variants, shrinking, replay – is as for any litmus test.
import type { Actor, Advisory, Expectation, Litmus, Names, Operation } from './litmus.ts';
import type { LockKind, Predicate } from './paper/spec.ts';
import type { Steps } from './paper/steps.ts';
import type { World } from './world.ts';

type Program = (p: Steps) => void;

interface StepActor {
  readonly kind: 'software' | 'hardware';
  readonly does: Program | readonly Program[];
}

export interface StepProgram
  extends Pick<Litmus, 'title' | 'source' | 'never' | 'invariants' | 'faults' | 'arguments'> {
  readonly advisory?: Advisory;
  readonly locks?: Readonly<Record<string, LockKind>>;
  readonly words?: Readonly<Record<string, number>>;
  /** Tables beside `p2m(d)` and `io(d)`. */
  readonly tables?: readonly string[];
  /** Tables of which walkers see the copy in memory. */
  readonly nonCoherent?: readonly string[];
  readonly iotlbByDevice?: boolean;
  readonly cachesAbsent?: boolean;
  /** Looked at after every step of anybody. */
  readonly always?: Readonly<Record<string, Predicate>>;
  /** Looked at when all have ended. */
  readonly atRest?: Readonly<Record<string, Predicate>>;
  start?(p: Steps): void;
  readonly actors: Readonly<Record<string, StepActor>>;
  readonly variants: Readonly<
    Record<
      string,
      { readonly what: string; readonly actors?: Readonly<Record<string, StepActor>>; readonly expect: Expectation }
    >
  >;
}

const operation =
  (program: Program): Operation<Names> =>
  (w: World) =>
    program(w.steps);

const actorOf = ({ kind, does }: StepActor): Actor<Names> => ({
  kind,
  does: typeof does === 'function' ? operation(does) : does.map(operation),
});

const actorsOf = (actors: Readonly<Record<string, StepActor>>): Record<string, Actor<Names>> =>
  Object.fromEntries(Object.entries(actors).map(([name, actor]) => [name, actorOf(actor)]));

/** The default export of a file in litmus/, where the model has no such steps. */
export function stepProgram(program: StepProgram): Litmus {
  const { title, source, never, invariants, faults, advisory } = program;
  return {
    title,
    source,
    never,
    ...(invariants === undefined ? {} : { invariants }),
    ...(faults === undefined ? {} : { faults }),
    ...(program.arguments === undefined ? {} : { arguments: program.arguments }),
    ...(advisory === undefined ? {} : { advisory }),
    // Nobody looks at the host beside it.
    machine: { frames: 512, tablePages: 8, maxDomains: 1, dom0Pages: 0, devices: [] },
    start: () => ({}),
    actors: actorsOf(program.actors),
    variants: Object.fromEntries(
      Object.entries(program.variants).map(([name, { what, expect, actors }]) => [
        name,
        { what, expect, ...(actors === undefined ? {} : { actors: actorsOf(actors) }) },
      ]),
    ),
    paper: {
      locks: program.locks ?? {},
      words: program.words ?? {},
      tables: program.tables ?? [],
      nonCoherent: program.nonCoherent ?? [],
      iotlbByDevice: program.iotlbByDevice ?? false,
      cachesAbsent: program.cachesAbsent ?? false,
      always: program.always ?? {},
      atRest: program.atRest ?? {},
      start: program.start ?? ((): void => {}),
    },
  };
}
