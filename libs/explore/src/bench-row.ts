// One row of the advisory bench: a litmus test's variants through the exhaustive search, and those that are broken through schedules by
// chance as well, to tell what finding it costs.

import { type Finding, findingsOf } from './checker.ts';
import { parseReplay } from './replay-string.ts';
import { StateCheck } from './state-check.ts';
import { Trace } from './trace.ts';
import type { Troupe } from './troupe.ts';
import { type SearchOptions, searchVariant, type VariantReport } from './variant-search.ts';

/** Independent searches by chance, and schedules of each at most. */
const RUNS = 20;
const SCHEDULES = 2000;
const NOT_FOUND = 0;
const OUT_OF_TIME = -1;

/** Schedules until the first violation, over the runs that found it. */
export interface Spread {
  readonly runs: number;
  readonly found: number;
  readonly median: number;
  readonly max: number;
}

export interface RowOptions {
  /** After the bound, one preemption more for so long. */
  readonly furtherSeconds: number;
  /** For each variant. */
  readonly seconds: number;
  /** For each scheduler that draws by chance: a row whose bug is seldom shall not hold up the bench. */
  readonly chanceSeconds: number;
}

export interface RowVariant {
  readonly report: VariantReport;
  /** null: it is not broken, or has no schedules to choose from. */
  readonly random: Spread | null;
  readonly pct: Spread | null;
  /** Of a variant that could not be exhausted: schedules by chance that showed nothing. */
  readonly chance: VariantReport | null;
}

const BOUND = 2;

export function benchRow(troupe: Troupe, path: string, variant: string, options: RowOptions): RowVariant {
  const search: SearchOptions = {
    scheduler: 'exhaustive',
    bound: BOUND,
    reduce: true,
    firstSeed: 1,
    seeds: 20_000,
    depth: 2,
    states: true,
    limits: { schedules: Number.MAX_SAFE_INTEGER, seconds: options.seconds },
    furtherSeconds: options.furtherSeconds,
  };
  const report = searchVariant(troupe, path, variant, search);
  const { counterexample } = report;
  const incomplete = counterexample === null && (report.complete ?? -1) < BOUND;
  const chance = incomplete
    ? searchVariant(troupe, path, variant, {
        ...search,
        scheduler: 'random',
        limits: { ...search.limits, seconds: options.chanceSeconds },
      })
    : null;
  if (counterexample === null || troupe.names.length === 1) return { report, random: null, pct: null, chance };
  const { replay, invariant } = counterexample;
  const wanted = (finding: Finding): boolean => finding.invariant === invariant;
  return {
    report,
    chance,
    random: spread({ troupe, variant, replay, wanted, seconds: options.chanceSeconds }, 'random'),
    pct: spread({ troupe, variant, replay, wanted, seconds: options.chanceSeconds }, 'pct'),
  };
}

interface Wanted {
  readonly troupe: Troupe;
  readonly variant: string;
  /** Of the counterexample: its arguments and its failure are kept. */
  readonly replay: string;
  readonly wanted: (finding: Finding) => boolean;
  readonly seconds: number;
}

function spread({ troupe, variant, replay, wanted, seconds }: Wanted, kind: 'random' | 'pct'): Spread {
  const { failAt, args: places = [] } = parseReplay(replay);
  const failing = failAt === undefined ? {} : { failAt };
  troupe.attach(variant, { kind: 'replay' }, { places });
  troupe.play(failing);
  const trace = new Trace(troupe.control, troupe.hardware);
  const lengths = troupe.names.map((_, actor) => trace.actors.filter((a) => a === actor).length);
  troupe.attach(variant, kind === 'random' ? { kind } : { kind, depth: 3 }, { places });
  troupe.scheduler?.learn(lengths);
  const states = new StateCheck(troupe.host);
  const ends = performance.now() + seconds * 1000;
  const until = (run: number): number => {
    for (let n = 1; n <= SCHEDULES; n++) {
      if (performance.now() > ends) return OUT_OF_TIME;
      const played = troupe.play({ ...failing, seed: run * 1_000_003 + n });
      const findings = findingsOf(troupe, played, () => new Trace(troupe.control, troupe.hardware), states);
      if (findings.some(wanted)) return n;
    }
    return NOT_FOUND;
  };
  const counts: number[] = [];
  let runs = 0;
  for (; runs < RUNS; runs++) {
    const schedules = until(runs);
    if (schedules === OUT_OF_TIME) break;
    if (schedules !== NOT_FOUND) counts.push(schedules);
  }
  const sorted = counts.toSorted((a, b) => a - b);
  const median = sorted[Math.floor((sorted.length - 1) / 2)] ?? 0;
  return { runs, found: counts.length, median, max: sorted.at(-1) ?? 0 };
}
