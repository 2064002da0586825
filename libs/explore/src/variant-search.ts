// One variant from its start to its report: that it is deterministic, the search that was asked for, the shortest schedule that
// shows what was found, and whether that is what the test expects.
import { type Combination, combinationsOf, describeArguments } from './arguments.ts';
import type { Finding } from './checker.ts';
import { ExhaustiveSearch, stepsTo } from './exhaustive.ts';
import { failedStep } from './failed-step.ts';
import { knownInvariants } from './invariants.ts';
import { actorsOf, operationsOf } from './part.ts';
import { type Limits, Player, type Shown, Tally } from './player.ts';
import { formatReplay } from './replay-string.ts';
import { sample } from './sampled.ts';
import { runsOf } from './schedule.ts';
import { Shrinker } from './shrink.ts';
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
  /** Exhaustive: when the bound is done, one preemption more for so long, over all cases. */
  readonly furtherSeconds?: number;
}

/** Who took which steps, until somebody else did. */
export interface Stretch {
  readonly actor: string;
  readonly steps: readonly string[];
}

export interface Counterexample {
  readonly invariant: string;
  readonly text: string;
  /** Arguments and the failure that it takes beside the schedule; empty: nothing. */
  readonly under: string;
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
  /** Combinations of arguments and failures that were searched. */
  readonly cases: number;
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
  const { test } = troupe;
  const { expect, what } = test.variants[variant] ?? { expect: { verdict: 'holds' as const }, what: '' };
  const wanted = (finding: Finding): boolean => expect.verdict === 'holds' || finding.invariant === expect.invariant;
  const tally = new Tally(options.limits);
  const combinations = combinationsOf(test);
  let complete: number | null = options.scheduler === 'exhaustive' ? Number.POSITIVE_INFINITY : null;
  let shortest: { readonly shown: Shown; readonly combination: Combination; readonly text: string } | null = null;
  let first = 0;
  let player: Player | null = null;
  for (const [at, combination] of combinations.entries()) {
    const { places } = combination;
    if (player === null || options.scheduler !== 'exhaustive' || !troupe.changeArguments(places)) {
      troupe.attach(variant, { kind: 'replay' }, { places });
      player = new Player(troupe, options.states, tally);
    }
    checkDeterminism(troupe);
    const searched = searchAll({
      troupe,
      variant,
      player,
      options: shareOf(options, at, combinations.length),
      wanted,
      places,
    });
    if (complete !== null) complete = Math.min(complete, searched.complete ?? -1);
    if (searched.shown !== null) {
      first = searched.first;
      const shown = shorten(troupe, variant, options, searched.shown, wanted, places);
      shortest = { shown, combination, text: circumstances(troupe, shown, combination.args) };
    }
    troupe.check();
    if (shortest !== null) break;
    if (tally.exhausted && at < combinations.length - 1) {
      if (complete !== null) complete = -1;
      break;
    }
  }
  for (const name of tally.counts.keys()) {
    if (!knownInvariants.has(name) && test.invariants?.[name] === undefined) throw new UnknownInvariant(name);
  }
  const found = shortest !== null;
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
    broken: Object.fromEntries(tally.counts),
    schedules: tally.schedules,
    distinct: tally.hashes.size,
    first,
    complete,
    cases: tally.cases,
    reduced: options.scheduler === 'exhaustive' && options.reduce,
    longest: tally.longest,
    seconds: (performance.now() - began) / 1000,
  };
}

/** Seeds are spread over the combinations; each has one at least. */
function shareOf(options: SearchOptions, at: number, of: number): SearchOptions {
  const share = Math.ceil(options.seeds / of);
  const { furtherSeconds } = options;
  return {
    ...options,
    seeds: share,
    firstSeed: options.firstSeed + at * share,
    ...(furtherSeconds === undefined ? {} : { furtherSeconds: furtherSeconds / of }),
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

interface Searching {
  readonly troupe: Troupe;
  readonly variant: string;
  readonly player: Player;
  readonly options: SearchOptions;
  readonly wanted: (finding: Finding) => boolean;
  readonly places: readonly number[];
}

interface Searched {
  readonly shown: Shown | null;
  readonly first: number;
  readonly complete: number | null;
}

/** Without a failure first; then, where the test asks for it, each step that can fail does so in turn. */
function searchAll(searching: Searching): Searched {
  const { troupe, player, options, wanted } = searching;
  const { fallible } = troupe.test.faults === undefined ? { fallible: 0 } : troupe.play();
  player.tally.cases += 1 + fallible;
  if (options.scheduler !== 'exhaustive') return searchByChance(searching, fallible);
  const { bound, reduce, furtherSeconds } = options;
  const further = furtherSeconds === undefined ? {} : { furtherSeconds: furtherSeconds / (1 + fallible) };
  const whole = new ExhaustiveSearch(player, { bound, reduce, wanted, ...further }).run();
  let { complete } = whole;
  for (let failAt = 0; failAt < fallible && whole.shown === null; failAt++) {
    const one = new ExhaustiveSearch(player, { bound, reduce, wanted, playing: { failAt }, ...further }).run();
    complete = Math.min(complete, one.complete);
    if (one.shown !== null) return { ...one, complete };
    if (player.exhausted) return { shown: null, first: 0, complete: -1 };
  }
  return { ...whole, complete };
}

/** What fails, if anything, is drawn as well. */
function searchByChance({ troupe, variant, player, options, wanted, places }: Searching, fallible: number): Searched {
  // How long each actor is, from the schedule without preemptions.
  const { trace } = player.shown(player.play({}), {});
  const lengths = troupe.names.map((_, actor) => trace.actors.filter((a) => a === actor).length);
  const spec =
    options.scheduler === 'random' ? ({ kind: 'random' } as const) : ({ kind: 'pct', depth: options.depth } as const);
  troupe.attach(variant, spec, { places });
  troupe.scheduler?.learn(lengths);
  const { firstSeed, seeds } = options;
  return { ...sample(player, { firstSeed, seeds, wanted, fallible }), complete: null };
}

function shorten(
  troupe: Troupe,
  variant: string,
  options: SearchOptions,
  shown: Shown,
  wanted: (finding: Finding) => boolean,
  places: readonly number[],
): Shown {
  if (options.scheduler !== 'exhaustive') troupe.attach(variant, { kind: 'replay' }, { places });
  const player = new Player(troupe, options.states, new Tally({ schedules: 20_000, seconds: 5 }));
  const operations = actorsOf(troupe.test, variant).map(([, actor]) => operationsOf(actor).length);
  const { playing } = shown;
  const { seed: _, ...rest } = playing;
  return new Shrinker(player, operations, wanted).shrink(
    { ...shown, playing: rest },
    options.scheduler === 'exhaustive',
  );
}

/** What beside the schedule it takes: arguments, and the step that fails. */
function circumstances(troupe: Troupe, { playing, trace }: Shown, args: Readonly<Record<string, number>>): string {
  const failed = playing.failAt === undefined ? '' : `${failedStep(troupe, trace, playing.failAt)} fails`;
  return [describeArguments(args), failed].filter((text) => text !== '').join('; ');
}

function counterexample(
  troupe: Troupe,
  path: string,
  variant: string,
  { shown, combination, text }: { readonly shown: Shown; readonly combination: Combination; readonly text: string },
  wanted: (finding: Finding) => boolean,
): Counterexample {
  const { trace, played, playing } = shown;
  const steps = stepsTo(shown, wanted);
  const finding = shown.findings.find((f) => wanted(f) && f.at === steps);
  return {
    invariant: finding?.invariant ?? '',
    text: finding?.text ?? '',
    under: text,
    preemptions: trace.spent[Math.min(steps, trace.length)] as number,
    steps,
    replay: formatReplay({
      path,
      variant,
      runs: runsOf(trace),
      hash: played.hash,
      args: combination.places,
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
    last.steps.push(troupe.describe(trace.kind(i), trace.where(i)));
  }
  return all;
}
