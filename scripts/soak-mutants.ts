// Damaged files through every parser, and a hundredth as many through the whole of preflight: each must be read or refused with the place, none may hang, and memory must
// not grow. Part of `npm run soak`; set HOSTLOOM_INPUTS to damage real files too.
//
//   node --conditions=source scripts/soak-mutants.ts [--count N] [--seed N]
//   node --conditions=source scripts/soak-mutants.ts --replay 'dmar 1234' > mutant

import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { type MutantRun, mutantFor, runMutants } from '../libs/formats/test-support/mutant-run.ts';
import { mutantTargets } from '../libs/formats/test-support/mutant-targets.ts';
import { preflightTargets } from '../libs/preflight/test-support/preflight-targets.ts';

const DEFAULT_COUNT = 100_000;
const MIB = 2 ** 20;
const LIMIT_MIB = 20;
/** Of one mutant. The slowest takes a few milliseconds. */
const HANG_MS = 20_000;
/** What the engine needs to settle: compiled code, a heap of its working size. */
const WARM_UP_SHARE = 0.2;

const YOUNG_GENERATION_MIB = 16;
/** Parsers' mutants to one of preflight's. */
const PREFLIGHT_SHARE = 100;
const allTargets = [...mutantTargets, ...preflightTargets];

interface Order {
  readonly count: number;
  readonly seed: number;
  /** Which target, which seed: read by the watchdog. */
  readonly now: SharedArrayBuffer;
}

interface Report {
  readonly lines: readonly string[];
  readonly failed: boolean;
}

/** Resident memory after a full collection. */
function settledRss(): number {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void; // present since the flag is
  collect();
  collect();
  return process.memoryUsage.rss();
}

function soak({ count, seed, now }: Order): Report {
  const place = new Int32Array(now);
  const onMutant = (target: (typeof allTargets)[number], mutant: number): void => {
    Atomics.store(place, 0, allTargets.indexOf(target));
    Atomics.store(place, 1, mutant);
  };
  const run = (mutants: number, firstSeed: number): MutantRun => {
    const parsers = runMutants({ targets: mutantTargets, count: mutants, firstSeed, onMutant });
    const few = Math.ceil(mutants / PREFLIGHT_SHARE);
    const whole = runMutants({ targets: preflightTargets, count: few, firstSeed, onMutant });
    return {
      tallies: [...parsers.tallies, ...whole.tallies],
      failures: [...parsers.failures, ...whole.failures],
      slowestMs: Math.max(parsers.slowestMs, whole.slowestMs),
    };
  };
  const warmUp = Math.ceil(count * WARM_UP_SHARE);
  const first = run(warmUp, seed);
  const before = settledRss();
  const rest = run(count - warmUp, seed + warmUp);
  const grown = (settledRss() - before) / MIB;
  const failures = [...first.failures, ...rest.failures];
  const lines = [
    `${'damaged files'.padEnd(16)}     read  refused`,
    ...first.tallies.map(({ name, read, refused }, index) => {
      const sums = [read + (rest.tallies[index]?.read ?? 0), refused + (rest.tallies[index]?.refused ?? 0)];
      return `${name.padEnd(16)} ${sums.map((n) => String(n).padStart(8)).join(' ')}`;
    }),
    `slowest ${Math.max(first.slowestMs, rest.slowestMs).toFixed(1)} ms, memory grew by ${grown.toFixed(1)} MiB of ${LIMIT_MIB}`,
    ...failures.map((text) => `FAILED ${text}    (--replay '${text.replace(/:.*/s, '')}' writes the file)`),
  ];
  if (grown >= LIMIT_MIB) lines.push('FAILED memory grew');
  return { lines, failed: failures.length > 0 || grown >= LIMIT_MIB };
}

/** Runs the work in a thread, as only another thread can see it hang. */
function watch(count: number, seed: number): void {
  const now = new SharedArrayBuffer(8);
  const place = new Int32Array(now);
  const order: Order = { count, seed, now };
  // The engine's room for short-lived objects is kept from growing by itself: what grows then is what somebody holds on to.
  const worker = new Worker(new URL(import.meta.url), {
    workerData: order,
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MIB },
  });
  let last = -1;
  const watchdog = setInterval(() => {
    const mutant = Atomics.load(place, 1);
    if (mutant !== last || mutant === 0) {
      last = mutant;
      return;
    }
    console.log(`FAILED ${allTargets[Atomics.load(place, 0)]?.name} ${mutant}: hangs`);
    process.exit(1);
  }, HANG_MS);
  worker.once('message', ({ lines, failed }: Report) => {
    clearInterval(watchdog);
    for (const line of lines) console.log(line);
    process.exitCode = failed ? 1 : 0;
  });
}

function replay(which: string): void {
  const [, name, seed] = /^(.*) (\d+)$/.exec(which) ?? [];
  const target = allTargets.find((t) => t.name === name);
  if (target === undefined) {
    console.error(`soak: --replay needs a target and a seed, such as '${mutantTargets[0]?.name} 1234'`);
    process.exit(64);
  }
  process.stdout.write(mutantFor(target, Number(seed)));
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  console.error(`soak: ${name} needs a whole number from 1 on`);
  process.exit(64);
}

if (!isMainThread) {
  parentPort?.postMessage(soak(workerData as Order)); // what watch() above gave
} else {
  const { values } = parseArgs({
    options: { count: { type: 'string' }, seed: { type: 'string' }, replay: { type: 'string' } },
  });
  if (values.replay === undefined) {
    const count = wholeNumber('--count', values.count ?? process.env.HOSTLOOM_MUTANTS ?? String(DEFAULT_COUNT));
    watch(count, wholeNumber('--seed', values.seed ?? '1'));
  } else replay(values.replay);
}
