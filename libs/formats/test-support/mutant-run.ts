// Gives damaged files to parsers and judges what they do: read them, or refuse them with an error that says where. Anything else
// – another error, or seconds spent on one file – is a failure, told with the seed that makes it again.
import { FormatError } from '../src/acpi/format-error.ts';
import { OperatorError } from '../src/operator-error.ts';
import { mutantOf, seededRandom } from './mutator.ts';

export interface MutantTarget {
  readonly name: string;
  /** Good files to damage. */
  readonly seeds: readonly Uint8Array[];
  /** After the damage: makes good again what would hide everything behind it. Done to three of four. */
  repair?(mutant: Uint8Array): Uint8Array;
  /** What the user's command does with such a file. */
  read(mutant: Uint8Array): unknown;
}

export interface MutantTally {
  readonly name: string;
  read: number;
  refused: number;
}

export interface MutantRun {
  readonly tallies: readonly MutantTally[];
  /** `dmar 1234: RangeError: …` */
  readonly failures: readonly string[];
  readonly slowestMs: number;
}

export interface MutantRunOptions {
  readonly targets: readonly MutantTarget[];
  readonly count: number;
  /** Of the first mutant; each has one more than the one before. */
  readonly firstSeed?: number;
  /** Called before each mutant. */
  onMutant?(target: MutantTarget, seed: number): void;
}

/** Far beyond the few milliseconds that one takes: a busy machine is no failure. */
const SLOW_MS = 5000;
const FAILURES_KEPT = 20;

/** `count` mutants, the targets in turn. */
export function runMutants({ targets, count, firstSeed = 1, onMutant }: MutantRunOptions): MutantRun {
  const tallies = targets.map(({ name }) => ({ name, read: 0, refused: 0 }));
  const failures: string[] = [];
  let slowestMs = 0;
  for (let i = 0; i < count; i++) {
    const target = targets[i % targets.length];
    const tally = tallies[i % targets.length];
    if (target === undefined || tally === undefined) break;
    const seed = firstSeed + i;
    onMutant?.(target, seed);
    const started = performance.now();
    const failure = readMutant(target, seed, tally);
    const took = performance.now() - started;
    slowestMs = Math.max(slowestMs, took);
    const what = failure ?? (took > SLOW_MS ? `${took.toFixed(0)} ms for one file` : null);
    if (what !== null && failures.length < FAILURES_KEPT) failures.push(`${target.name} ${seed}: ${what}`);
  }
  return { tallies, failures, slowestMs };
}

/** The damaged file of this seed. */
export function mutantFor({ seeds, repair }: MutantTarget, seed: number): Uint8Array {
  const random = seededRandom(seed);
  const mutant = mutantOf(seeds, random);
  return repair !== undefined && random(4) > 0 ? repair(mutant) : mutant;
}

function readMutant(target: MutantTarget, seed: number, tally: MutantTally): string | null {
  const mutant = mutantFor(target, seed);
  try {
    target.read(mutant);
    tally.read++;
    return null;
  } catch (error) {
    tally.refused++;
    return isTold(error) ? null : error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }
}

/** Says where in the file, what is wrong there and what to do. */
function isTold(error: unknown): boolean {
  if (error instanceof FormatError) {
    return Number.isSafeInteger(error.offset) && [error.field, error.what, error.remedy].every((text) => text !== '');
  }
  return (
    error instanceof OperatorError && error.problems.every(({ message, remedy }) => message !== '' && remedy !== '')
  );
}
