// Why a schedule did not end: the cycle of steps that an actor repeats, if it does.
import { describeKind } from './step-kinds.ts';
import type { Trace } from './trace.ts';

/** Cycles of more steps are not looked for. */
const LONGEST = 512;
/** So often must a cycle have been gone through to be called one. */
const TIMES = 4;

/** What is told of an actor whose schedule was ended for its length. */
export function repetition(trace: Trace, actor: number, names: readonly string[]): string {
  const own: number[] = [];
  for (let i = 0; i < trace.length; i++) if (trace.actor(i) === actor) own.push(i);
  const name = names[actor] ?? '?';
  for (let period = 1; period <= Math.min(LONGEST, Math.floor(own.length / TIMES)); period++) {
    if (!repeats(trace, own, period)) continue;
    const steps = own.slice(-period).map((i) => describeKind(trace.kind(i)));
    const shown = steps.length > 12 ? [...steps.slice(0, 12), `… ${steps.length} in all`] : steps;
    return `${name} repeats the same steps without an end: ${shown.join(', ')}`;
  }
  return `${name} has not ended after ${own.length} steps`;
}

function repeats(trace: Trace, own: readonly number[], period: number): boolean {
  for (let back = 1; back <= period * (TIMES - 1); back++) {
    const a = own[own.length - back] as number;
    const b = own[own.length - back - period] as number;
    if (trace.kind(a) !== trace.kind(b) || trace.where(a) !== trace.where(b)) return false;
  }
  return true;
}
