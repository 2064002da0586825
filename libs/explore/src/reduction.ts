// Partial-order reduction that stays sound under a preemption bound (Coons, Musuvathi, McKinley: Bounded partial-order reduction,
// OOPSLA 2013): only orders of steps that may depend on each other are turned round; and since turning one round right where it
// happened may cost a preemption too many, the places before it are tried too where a switch is free. No sleep sets: they are
// not sound under a bound.
//
// What depends on what is coarse on purpose. A step announces one access, but what follows it until the next step may look at
// more. Only taking a lock is known to concern nobody who does not want the same lock: what follows it is under that lock, or
// announced. After an unlock nothing is.
import { stepKind } from '#model/shared-memory/step';
import { RESUMED } from './control.ts';
import type { Trace } from './trace.ts';

const takes = (kind: number, where: number): boolean =>
  kind === stepKind.lock || kind === stepKind.tryLock || (kind === RESUMED && where >= 0);

/** May swapping two neighbouring events of different actors make a difference? */
export function dependent(kindA: number, whereA: number, kindB: number, whereB: number): boolean {
  const [aTakes, bTakes] = [takes(kindA, whereA), takes(kindB, whereB)];
  if (!aTakes && !bTakes) return true;
  const aLock = aTakes || kindA === stepKind.unlock;
  const bLock = bTakes || kindB === stepKind.unlock;
  return aLock && bLock && whereA === whereB;
}

/** A lock cannot be taken by one while another is at dropping it: such a pair has only one order. */
const coEnabled = (kindA: number, kindB: number): boolean =>
  !((kindA === stepKind.unlock && kindB === stepKind.lock) || (kindA === stepKind.lock && kindB === stepKind.unlock));

/**
 * Which events should be tried with another actor: a byte at index · 8 + actor. Only pairs of events are looked at whose later one
 * stands at `from` or after it: the others were in the schedule that this one was made from.
 */
export function turnsOf(trace: Trace, actors: number, from: number): Uint8Array {
  const turns = new Uint8Array(trace.length * 8);
  /** By actor, the last event of each actor that happened before what it does next. */
  const clocks = Array.from({ length: actors }, () => new Int32Array(actors).fill(-1));
  const ofEvent: Int32Array[] = [];
  for (let j = 0; j < trace.length; j++) {
    const q = trace.actor(j);
    const clock = clocks[q] as Int32Array;
    const after = clock.slice();
    // Below this, whatever there is was ordered before q's last event, or is no news to it.
    for (let i = j - 1; i > leastOf(j < from ? after : clock, q); i--) {
      const p = trace.actor(i);
      if (p === q || !dependent(trace.kind(i), trace.where(i), trace.kind(j), trace.where(j))) continue;
      // What q knew before this event is ordered already; what it learns by this event may have been the other way round.
      if (j >= from && (clock[p] as number) < i && coEnabled(trace.kind(i), trace.kind(j))) turn(trace, turns, i, q);
      if ((after[p] as number) < i) join(after, ofEvent[i] as Int32Array);
    }
    after[q] = j;
    clocks[q] = after;
    ofEvent.push(after);
  }
  return turns;
}

function leastOf(clock: Int32Array, but: number): number {
  let least = Number.POSITIVE_INFINITY;
  for (let p = 0; p < clock.length; p++) if (p !== but) least = Math.min(least, clock[p] as number);
  return least;
}

function join(into: Int32Array, other: Int32Array): void {
  for (let p = 0; p < into.length; p++) into[p] = Math.max(into[p] as number, other[p] as number);
}

function turn(trace: Trace, turns: Uint8Array, index: number, actor: number): void {
  mark(trace, turns, index, actor);
  // The nearest places before it where whoever took it could be left for nothing, down to where its run of events began.
  const p = trace.actor(index);
  for (let at = index; at >= 0 && trace.actor(at) === p; at--) if (trace.free(at)) mark(trace, turns, at, actor);
}

/** An actor that could not go on there may have been kept by any other: then all are tried. */
function mark(trace: Trace, turns: Uint8Array, index: number, actor: number): void {
  const enabled = trace.enabled[index] as number;
  if ((enabled & (1 << actor)) !== 0) turns[index * 8 + actor] = 1;
  else for (let a = 0; a < 8; a++) if ((enabled & (1 << a)) !== 0) turns[index * 8 + a] = 1;
}
