// The coordinating thread of an exploration: loads and checks the litmus test, starts the actors' threads, does the job, and tells
// whoever started it. It is a thread of its own because it blocks; whoever started it watches, and ends it if nothing moves.
import { readFileSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { OperatorError } from '#formats/operator-error';
import { benchRow } from './bench-row.ts';
import { ActorFailed } from './checker.ts';
import { compareSettings } from './differential.ts';
import { faultSweep } from './fault-sweep.ts';
import type { ExplorerData, FromExplorer, Mistake } from './jobs.ts';
import type { Litmus } from './litmus.ts';
import { checkLitmus } from './litmus-checks.ts';
import { loadLitmus } from './load-litmus.ts';
import type { Mutant } from './mutants.ts';
import { replay } from './replay.ts';
import { ReplayStringError } from './replay-string.ts';
import { placeIn } from './stack-place.ts';
import { teeth } from './teeth.ts';
import { timed } from './timed.ts';
import { StartFailed, Troupe } from './troupe.ts';
import { NotDeterministic, searchVariant, UnknownInvariant } from './variant-search.ts';
import { UnexpectedAnswer } from './world.ts';

const { path, shownPath, job } = workerData as ExplorerData; // as the session starts it

const tell = (message: FromExplorer): void => parentPort?.postMessage(message);

function chosenVariants(test: Litmus, wanted: readonly string[] | null): readonly string[] {
  const all = Object.keys(test.variants);
  if (wanted === null) {
    // What is broken already has nothing to be broken.
    return job.is === 'teeth' ? all.filter((name) => test.variants[name]?.expect.verdict === 'holds') : all;
  }
  const unknown = wanted.find((name) => !all.includes(name));
  if (unknown !== undefined)
    throw new ReplayStringError(`${shownPath} has no variant '${unknown}'`, `it has ${all.join(', ')}`);
  return wanted;
}

function work(troupe: Troupe, test: Litmus): void {
  if (job.is === 'replay') {
    tell({ is: 'replayed', report: replay(troupe, job.recorded) });
    return;
  }
  for (const variant of chosenVariants(test, job.variants)) {
    tell({ is: 'begins', variant });
    if (job.is === 'search') {
      tell({ is: 'variant', report: searchVariant(troupe, shownPath, variant, job.options) });
    } else if (job.is === 'fault-sweep') {
      tell({ is: 'swept', report: faultSweep(troupe, shownPath, variant) });
    } else if (job.is === 'timed') {
      tell({ is: 'timed', report: timed(troupe, variant) });
    } else if (job.is === 'row') {
      tell({ is: 'row', variant: benchRow(troupe, shownPath, variant, job.options) });
    } else if (job.is === 'teeth') {
      const { seconds, stuck } = job;
      const begins = (mutant: Mutant): void => tell({ is: 'mutant', mutant });
      tell({ is: 'teeth', report: teeth(troupe, shownPath, variant, { seconds, stuck, begins }) });
    } else tell({ is: 'compared', report: compareSettings(troupe, variant) });
  }
}

async function main(): Promise<void> {
  const source = readFileSync(path, 'utf8');
  const test = await loadLitmus(path);
  checkLitmus(shownPath, source, test);
  const { title, never, advisory = null } = test;
  const hardware = Object.values(test.actors).filter(({ kind }) => kind === 'hardware').length;
  const actors = Object.keys(test.actors);
  const variants = Object.keys(test.variants);
  tell({ is: 'facts', facts: { title, source: test.source, never, actors, hardware, advisory, variants } });
  const troupe = await Troupe.start(test, path, (control) => tell({ is: 'control', control }));
  try {
    work(troupe, test);
  } finally {
    await troupe.stop();
  }
}

/** A mistake in the test, with its place where that is known; null: one of ours. */
function mistakeOf(error: unknown): Mistake | null {
  if (error instanceof OperatorError) {
    const [first, ...others] = error.problems;
    const { message, remedy } = error;
    return { message, remedy, exitCode: 64, ...(first === undefined ? {} : { problems: [first, ...others] }) };
  }
  if (error instanceof ReplayStringError) return { message: error.message, remedy: error.remedy, exitCode: 64 };
  if (!(error instanceof Error)) return null;
  const place = placeIn(path, shownPath, error);
  const at = `${place ?? shownPath}: `;
  if (error instanceof UnknownInvariant) {
    return {
      message: `${shownPath}: ${error.message}`,
      remedy: 'declare it under invariants, or use one of docs/litmus.md',
      exitCode: 64,
    };
  }
  if (error instanceof StartFailed || error instanceof UnexpectedAnswer) {
    return {
      message: `${at}${error.message}`,
      remedy: 'the start and the actors must work before anything can be explored',
      exitCode: 64,
    };
  }
  if (error instanceof ActorFailed) {
    return { message: `${at}${error.message}`, remedy: 'an actor may break an invariant, but not throw', exitCode: 2 };
  }
  if (error instanceof NotDeterministic) {
    return {
      message: `${shownPath}: ${error.message}`,
      remedy: 'let an actor use only what World gives it',
      exitCode: 2,
    };
  }
  return place === null ? null : { message: `${at}${error.message}`, remedy: 'see docs/litmus.md', exitCode: 64 };
}

try {
  await main();
} catch (error) {
  const mistake = mistakeOf(error);
  if (mistake === null) throw error;
  tell({ is: 'mistake', mistake });
}
tell({ is: 'done' });
