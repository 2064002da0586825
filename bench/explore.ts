// How fast schedules are played: random ones of a test with two actors of some fifteen steps, all of two actors of twenty steps with
// at most two preemptions, and what the seam costs a live thread that has none installed.
import { fileURLToPath } from 'node:url';
import { runExplorer } from '#explore/session';
import type { SearchOptions, VariantReport } from '#explore/variant-search';
import { store } from '#model/shared-memory/slots';
import { step, stepKind } from '#model/shared-memory/step';
import { median, printRow, spreadOf } from './row.ts';

const RUNS = 5;
const SCHEDULES = 20_000;
const WORKERS = 2;

const fixture = (name: string): string =>
  fileURLToPath(new URL(`../libs/explore/test-support/litmus/${name}.ts`, import.meta.url));

const options: SearchOptions = {
  scheduler: 'exhaustive',
  bound: 2,
  reduce: false,
  firstSeed: 1,
  seeds: SCHEDULES,
  depth: 2,
  states: false,
  limits: { schedules: 1_000_000, seconds: 60 },
};

async function search(name: string, some: Partial<SearchOptions>): Promise<VariantReport> {
  let report: VariantReport | null = null;
  const path = fixture(name);
  const job = { is: 'search' as const, variants: null, options: { ...options, ...some } };
  await runExplorer({ path, shownPath: path, job }, (message) => {
    if (message.is === 'variant') report = message.report;
  });
  if (report === null) throw new Error(`${name} told nothing`);
  return report;
}

/** Schedules a second of so many explorations side by side, threads and their start left out. */
async function schedulesPerSecond(): Promise<number> {
  const reports = await Promise.all(
    Array.from({ length: WORKERS }, (_, worker) =>
      search('fifteen-steps', { scheduler: 'random', firstSeed: worker * SCHEDULES }),
    ),
  );
  return reports.reduce((sum, { schedules, seconds }) => sum + schedules / seconds, 0);
}

async function benchRandom(): Promise<void> {
  const rates: number[] = [];
  for (let run = 0; run < RUNS; run++) rates.push(await schedulesPerSecond());
  printRow({
    row: 21,
    name: `random schedules a second, two actors of some 15 steps, own invariant, ${WORKERS} explorations`,
    value: median(rates),
    unit: '1/s',
    hold: 10_000,
    bound: 'at least',
    runs: RUNS,
    spread: spreadOf(rates),
    detail: { schedules: SCHEDULES },
  });
}

async function benchExhaustive(): Promise<void> {
  const seconds: number[] = [];
  let traces = 0;
  for (let run = 0; run < RUNS; run++) {
    const report = await search('twenty-steps', {});
    traces = report.distinct;
    seconds.push(report.seconds);
  }
  printRow({
    row: 22,
    name: 'two actors of 20 steps, at most 2 preemptions: all traces',
    value: median(seconds),
    unit: 's',
    hold: 0.3,
    bound: 'at most',
    runs: RUNS,
    spread: spreadOf(seconds),
    detail: { traces },
  });
}

const STORES = 20_000_000;
const slots = new Float64Array(new SharedArrayBuffer(8 * 1024));

function announced(rounds: number): void {
  for (let i = 0; i < rounds; i++) {
    step(stepKind.ptWrite, i & 1023);
    store(slots, i & 1023, i);
  }
}

function silent(rounds: number): void {
  for (let i = 0; i < rounds; i++) store(slots, i & 1023, i);
}

/** Nanoseconds of one of the loops, in batches of 1000 as the model's are. */
function nsOf(loop: (rounds: number) => void): number {
  const began = performance.now();
  for (let done = 0; done < STORES; done += 1000) loop(1000);
  return ((performance.now() - began) * 1e6) / STORES;
}

function benchSeam(): void {
  const costs: number[] = [];
  const stores: number[] = [];
  for (let run = 0; run <= RUNS; run++) {
    const [with_, without] = [nsOf(announced), nsOf(silent)];
    if (run === 0) continue; // compiled now
    costs.push(Math.max(0, with_ - without));
    stores.push(without);
  }
  printRow({
    row: 23,
    name: 'the idle seam, beside one table store',
    value: median(costs),
    unit: 'ns',
    hold: 1,
    bound: 'at most',
    runs: RUNS,
    spread: spreadOf(costs),
    detail: { storeNs: median(stores) },
  });
}

benchSeam();
await benchExhaustive();
await benchRandom();
