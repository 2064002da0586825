// Teeth: is anything watching? Of a variant that holds, one effective step after the other is left out – a store, a flush, a lock that
// somebody else wants too – and the schedules are searched for any invariant that notices. What nobody notices survives, and is told: the
// step is redundant in this test, or a predicate is missing.
import { combinationsOf } from './arguments.ts';
import { ActorFailed } from './checker.ts';
import { word } from './control.ts';
import { ExhaustiveSearch } from './exhaustive.ts';
import { type Candidate, candidatesOf, type Mutant } from './mutants.ts';
import { Player, Tally } from './player.ts';
import { formatReplay } from './replay-string.ts';
import { runsOf } from './schedule.ts';
import { Trace } from './trace.ts';
import type { Troupe } from './troupe.ts';

/** Preemptions with which a mutant is searched. */
const BOUND = 1;
const SECONDS_EACH = 2;

export interface Caught extends Mutant {
  readonly invariant: string;
}

export interface Survivor extends Mutant {
  /** All schedules up to this many preemptions were played. */
  readonly complete: number;
  readonly replay: string;
}

export interface TeethReport {
  readonly variant: string;
  /** Effective steps that were left out, one at a time. */
  readonly mutants: number;
  readonly caught: readonly Caught[];
  readonly survivors: readonly Survivor[];
  /** Steps without which the schedule without preemptions ends as with them, and nothing is broken: overwritten later, say. */
  readonly redundant: number;
  /** Steps that could not be tried in the time. */
  readonly untried: number;
  readonly seconds: number;
}

export interface TeethOptions {
  readonly seconds: number;
  /** Told before each mutant: one that does not come back is known by it. */
  readonly begins: (mutant: Mutant) => void;
  /** Mutants of which it is known that they do not come back. */
  readonly stuck: readonly Mutant[];
}

/** Of the first combination of arguments. */
export function teeth(troupe: Troupe, path: string, variant: string, options: TeethOptions): TeethReport {
  const began = performance.now();
  const places = combinationsOf(troupe.test)[0]?.places ?? [];
  troupe.attach(variant, { kind: 'replay' }, { mutants: true });
  const caught: Caught[] = [];
  const survivors: Survivor[] = [];
  let [untried, redundant] = [0, 0];
  const list = candidatesOf(troupe);
  const end = troupe.stateNow();
  for (const { mutant, flush, playing } of list) {
    if (performance.now() - began > options.seconds * 1000) {
      untried++;
      continue;
    }
    if (options.stuck.some(({ actor, step }) => actor === mutant.actor && step === mutant.step)) {
      caught.push({ ...mutant, invariant: 'callsMakeProgress' });
      continue;
    }
    options.begins(mutant);
    const result = tried(troupe, playing, flush, end);
    if (result === 'no effect') continue;
    if (result === 'redundant') redundant++;
    else if (typeof result === 'string') caught.push({ ...mutant, invariant: result });
    else survivors.push({ ...mutant, complete: result, replay: replayOf(troupe, path, variant, places, playing) });
  }
  const mutants = caught.length + survivors.length;
  const seconds = (performance.now() - began) / 1000;
  return { variant, mutants, caught, survivors, redundant, untried, seconds };
}

/** The invariant that notices; up to how many preemptions none does; or why it need not be asked. */
function tried(
  troupe: Troupe,
  playing: Candidate['playing'],
  flush: boolean,
  end: string,
): 'no effect' | 'redundant' | string | number {
  const player = new Player(troupe, true, new Tally({ schedules: 100_000, seconds: SECONDS_EACH }));
  const { words } = troupe.control;
  words[word.mutantFlushed] = 0;
  try {
    const { findings } = player.play(playing);
    const ended = troupe.stateNow();
    if (words[word.mutantEffect] === 0) return 'no effect';
    const [first] = findings;
    if (first !== undefined) return first.invariant;
    const search = new ExhaustiveSearch(player, { bound: BOUND, reduce: true, playing, wanted: () => true });
    const { shown, complete } = search.run();
    const found = shown?.findings[0]?.invariant;
    if (found !== undefined) return found;
    if (flush) return words[word.mutantFlushed] === 0 ? 'no effect' : complete;
    return ended === end && !playing.lock ? 'redundant' : complete;
  } catch (error) {
    // The model's own assertions, or an answer that the test did not expect.
    if (error instanceof ActorFailed) return 'anAssertion';
    throw error;
  }
}

function replayOf(
  troupe: Troupe,
  path: string,
  variant: string,
  args: readonly number[],
  { mutant }: Candidate['playing'],
): string {
  const { hash } = troupe.play({ mutant });
  const runs = runsOf(new Trace(troupe.control, troupe.hardware));
  return formatReplay({ path, variant, runs, hash, args, mutant });
}
