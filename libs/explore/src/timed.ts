// A variant in virtual time: one schedule, in which whoever's clock is lowest goes on. What it took each actor, how much of that it
// waited, and what the time went to.
import type { Finding } from './checker.ts';
import { findingsOf } from './checker.ts';
import { RESUMED } from './control.ts';
import { stepCostNs } from './schedulers/step-costs.ts';
import { TimedScheduler } from './schedulers/timed.ts';
import { StateCheck } from './state-check.ts';
import { describeKind } from './step-kinds.ts';
import { Trace } from './trace.ts';
import type { Troupe } from './troupe.ts';

export interface TimedActor {
  readonly name: string;
  readonly steps: number;
  /** Virtual nanoseconds until it was done, those of its own steps, and those it waited for others. */
  readonly ns: number;
  readonly busyNs: number;
  readonly waitedNs: number;
}

export interface TimedReport {
  readonly variant: string;
  readonly what: string;
  readonly actors: readonly TimedActor[];
  /** By kind of step, the most expensive first. */
  readonly costs: readonly {
    readonly kind: string;
    readonly count: number;
    readonly nsEach: number;
    readonly ns: number;
  }[];
  readonly findings: readonly Finding[];
}

/** Of the first combination of arguments. */
export function timed(troupe: Troupe, variant: string): TimedReport {
  troupe.attach(variant, { kind: 'timed' });
  const played = troupe.play();
  const trace = new Trace(troupe.control, troupe.hardware);
  const { scheduler } = troupe;
  if (!(scheduler instanceof TimedScheduler)) throw new Error('the timed scheduler is attached');
  const clocks = scheduler.ended(trace.length);
  const kinds = new Map<number, number>();
  const busy = troupe.names.map(() => 0);
  const steps = troupe.names.map(() => 0);
  for (let i = 0; i < trace.length; i++) {
    const [actor, kind] = [trace.actor(i), trace.kind(i)];
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    busy[actor] = (busy[actor] as number) + stepCostNs(kind);
    if (kind !== RESUMED) steps[actor] = (steps[actor] as number) + 1;
  }
  const costs = [...kinds].map(([kind, count]) => {
    const nsEach = stepCostNs(kind);
    return { kind: describeKind(kind), count, nsEach, ns: count * nsEach };
  });
  return {
    variant,
    what: troupe.test.variants[variant]?.what ?? '',
    actors: troupe.names.map((name, actor) => {
      const [ns, busyNs] = [clocks[actor] as number, busy[actor] as number];
      return { name, steps: steps[actor] as number, ns, busyNs, waitedNs: ns - busyNs };
    }),
    costs: costs.toSorted((a, b) => b.ns - a.ns),
    findings: findingsOf(troupe, played, () => trace, new StateCheck(troupe.host)),
  };
}
