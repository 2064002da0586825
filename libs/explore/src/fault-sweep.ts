// Every failure of every fallible step (allocation, table page, populate, entry, reference, device flush): the variant is played
// once to count them, then once for each, that one failing. After each everything must hold.
import { findingsOf } from './checker.ts';
import { endReason } from './control.ts';
import { failedStep } from './failed-step.ts';
import { formatReplay } from './replay-string.ts';
import { runsOf } from './schedule.ts';
import { StateCheck } from './state-check.ts';
import { Trace } from './trace.ts';
import type { Troupe } from './troupe.ts';

export interface BrokenBy {
  /** Which of the fallible steps failed, from 0, and what it was. */
  readonly failed: number;
  readonly step: string;
  readonly invariant: string;
  readonly text: string;
  readonly replay: string;
}

export interface FaultSweepReport {
  readonly variant: string;
  /** Steps that can fail. */
  readonly points: number;
  readonly broken: readonly BrokenBy[];
  readonly seconds: number;
}

export function faultSweep(troupe: Troupe, path: string, variant: string): FaultSweepReport {
  const began = performance.now();
  troupe.attach(variant, { kind: 'replay' });
  const states = new StateCheck(troupe.host);
  const broken: BrokenBy[] = [];
  const whole = troupe.play();
  for (let failAt = 0; failAt < whole.fallible; failAt++) {
    const played = troupe.play({ failAt });
    const trace = new Trace(troupe.control, troupe.hardware);
    const runs = runsOf(trace);
    const replay = formatReplay({ path, variant, runs, hash: played.hash, failAt });
    const step = failedStep(troupe, trace, failAt);
    for (const { invariant, text } of findingsOf(troupe, played, () => trace, states)) {
      broken.push({ failed: failAt, step, invariant, text, replay });
    }
    if (played.reason === endReason.deadlock) break;
  }
  return { variant, points: whole.fallible, broken, seconds: (performance.now() - began) / 1000 };
}
