// One variant from its start to its report: that it is deterministic, the search that was asked for, the shortest schedule that
// shows what was found, and whether that is what the test expects.
import type { Finding } from './checker.ts';
import { ExhaustiveSearch, stepsTo } from './exhaustive.ts';
import { knownInvariants } from './invariants.ts';
import { actorsOf, operationsOf } from './part.ts';
import { type Limits, Player, type Shown } from './player.ts';
import { formatReplay } from './replay-string.ts';
import { sample } from './sampled.ts';
import { runsOf } from './schedule.ts';
import { Shrinker } from './shrink.ts';
import { describeStep } from './step-names.ts';
import type { Troupe } from './troupe.ts';

export interface SearchOptions {
  readonly scheduler: 'exhaustive' | 'random' | 'pct';
  /** Preemptions at most. */
  readonly bound: number;
  readonly reduce: boolean;
  readonly firstSeed: number;
  readonly seeds: number;
  /** Of PCT. */
  readonly depth: number;
  /** All state invariants after each schedule, or what the actors see only. */
  readonly states: boolean;
  readonly limits: Limits;
}

/** Who took which steps, until somebody else did. */
export interface Stretch {
  readonly actor: string;
  readonly steps: readonly string[];
}

export interface Counterexample {
  readonly invariant: string;
  readonly text: string;
  readonly preemptions: number;
  readonly steps: number;
  readonly replay: string;
  readonly interleaving: readonly Stretch[];
}

export interface VariantReport {
  readonly variant: string;
  readonly what: string;
  readonly expected: string;
  readonly pass: boolean;
  /** Why not, where it does not pass. */
  readonly problem: string | null;
  readonly counterexample: Counterexample | null;
  /** Every invariant that was broken in some schedule, with how many. */
  readonly broken: Readonly<Record<string, number>>;
  readonly schedules: number;
  readonly distinct: number;
  /** Schedules until the first violation. */
  readonly first: number;
  /** All schedules with so many preemptions were played; null: drawn by chance. */
  readonly complete: number | null;
  readonly reduced: boolean;
  readonly longest: number;
  readonly seconds: number;
}

/** Two plays of one schedule were unlike: something in the test or the model is not the schedule's. */
export class NotDeterministic extends Error {
  override readonly name = 'NotDeterministic';
}

/** An invariant that nobody declared was reported. */
export class UnknownInvariant extends Error {
  override readonly name = 'UnknownInvariant';
  readonly invariant: string;

  constructor(invariant: string) {
    super(`an actor reported a violation of ${invariant}, which nobody declares`);
    this.invariant = invariant;
  }
}

export function searchVariant(troupe: Troupe, path: string, variant: string, options: SearchOptions): VariantReport {
  const began = performance.now();
  const { expect, what } = troupe.test.variants[variant] ?? { expect: { verdict: 'holds' as const }, what: '' };
  const wanted = (finding: Finding): boolean => expect.verdict === 'holds' || finding.invariant === expect.invariant;
  troupe.attach(variant, { kind: 'replay' });
  checkDeterminism(troupe);
  const player = new Player(troupe, options.states, options.limits);
  const { shown, counts, first, complete } = search(troupe, variant, player, options, wanted);
  const { schedules, hashes, longest } = player;
  const broken = Object.fromEntries(counts);
  for (const name of Object.keys(broken)) {
    if (!knownInvariants.has(name) && troupe.test.invariants?.[name] === undefined) throw new UnknownInvariant(name);
  }
  const shortest = shown === null ? null : shorten(troupe, variant, options, shown, wanted);
  troupe.check();
  const found = shown !== null;
  const pass = found === (expect.verdict === 'violates');
  return {
    variant,
    what,
    expected: expect.verdict === 'violates' ? `violates ${expect.invariant}` : 'holds',
    pass,
    problem: pass
      ? null
      : found
        ? 'an invariant is broken where all should hold'
        : `no schedule broke ${expect.invariant}`,
    counterexample: shortest === null ? null : counterexample(troupe, path, variant, shortest, wanted),
    broken,
    schedules,
    distinct: hashes.size,
    first,
    complete,
    reduced: options.scheduler === 'exhaustive' && options.reduce,
    longest,
    seconds: (performance.now() - began) / 1000,
  };
}

function checkDeterminism(troupe: Troupe): void {
  const [a, b] = [troupe.play(), troupe.play()];
  if (a.hash !== b.hash) {
    throw new NotDeterministic(
      `the same schedule played twice went differently (${a.events} and ${b.events} steps): an actor uses a clock, a random number or a variable of its own`,
    );
  }
}

interface Searched {
  readonly shown: Shown | null;
  readonly counts: ReadonlyMap<string, number>;
  readonly first: number;
  readonly complete: number | null;
}

function search(
  troupe: Troupe,
  variant: string,
  player: Player,
  options: SearchOptions,
  wanted: (finding: Finding) => boolean,
): Searched {
  if (options.scheduler === 'exhaustive') {
    const { bound, reduce } = options;
    return new ExhaustiveSearch(player, { bound, reduce, wanted }).run();
  }
  // How long each actor is, from the schedule without preemptions.
  const { trace } = player.shown(player.play({}), {});
  const lengths = troupe.names.map((_, actor) => trace.actors.filter((a) => a === actor).length);
  troupe.attach(variant, options.scheduler === 'random' ? { kind: 'random' } : { kind: 'pct', depth: options.depth });
  troupe.scheduler?.learn(lengths);
  const { firstSeed, seeds } = options;
  return { ...sample(player, { firstSeed, seeds, wanted }), complete: null };
}

function shorten(
  troupe: Troupe,
  variant: string,
  options: SearchOptions,
  shown: Shown,
  wanted: (finding: Finding) => boolean,
): Shown {
  if (options.scheduler !== 'exhaustive') troupe.attach(variant, { kind: 'replay' });
  const player = new Player(troupe, options.states, { schedules: 20_000, seconds: 5 });
  const operations = actorsOf(troupe.test, variant).map(([, actor]) => operationsOf(actor).length);
  const { playing } = shown;
  const { seed: _, ...rest } = playing;
  return new Shrinker(player, operations, wanted).shrink({ ...shown, playing: rest });
}

function counterexample(
  troupe: Troupe,
  path: string,
  variant: string,
  shown: Shown,
  wanted: (finding: Finding) => boolean,
): Counterexample {
  const { trace, played, playing } = shown;
  const steps = stepsTo(shown, wanted);
  const finding = shown.findings.find((f) => wanted(f) && f.at === steps);
  return {
    invariant: finding?.invariant ?? '',
    text: finding?.text ?? '',
    preemptions: trace.spent[Math.min(steps, trace.length)] as number,
    steps,
    replay: formatReplay({
      path,
      variant,
      runs: runsOf(trace),
      hash: played.hash,
      ...(playing.failAt === undefined ? {} : { failAt: playing.failAt }),
      ...(playing.operations === undefined ? {} : { operations: playing.operations }),
    }),
    interleaving: stretches(troupe, shown, steps),
  };
}

function stretches(troupe: Troupe, { trace }: Shown, end: number): Stretch[] {
  const all: { actor: string; steps: string[] }[] = [];
  for (let i = 0; i < end; i++) {
    const actor = troupe.names[trace.actor(i)] ?? '?';
    let last = all.at(-1);
    if (last?.actor !== actor) {
      last = { actor, steps: [] };
      all.push(last);
    }
    last.steps.push(describeStep(troupe.host, trace.kind(i), trace.where(i)));
  }
  return all;
}
