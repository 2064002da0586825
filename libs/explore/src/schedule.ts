// A schedule as data: where it leaves the default, which is to stay with whoever runs and, where that one cannot go on, to take
// the lowest that can. Written for people it is who takes how many steps: `A12B3A4`.
import type { Control } from './control.ts';
import type { Trace } from './trace.ts';

/** Event index · 8 + actor, ascending. */
export type Deviations = readonly number[];

export const deviation = (index: number, actor: number): number => index * 8 + actor;
export const deviationIndex = (d: number): number => Math.floor(d / 8);

/** Who goes on at `index` if nobody says otherwise. */
export function defaultActor(trace: Trace, index: number): number {
  const enabled = trace.enabled[index] as number;
  if (index > 0 && (enabled & (1 << trace.actor(index - 1))) !== 0) return trace.actor(index - 1);
  return 31 - Math.clz32(enabled & -enabled);
}

/** What of a trace was not the default, up to an event. */
export function deviationsOf(trace: Trace, end = trace.length): number[] {
  const found: number[] = [];
  for (let i = 0; i < end; i++) {
    if (trace.actor(i) !== defaultActor(trace, i)) found.push(deviation(i, trace.actor(i)));
  }
  return found;
}

export function writeChoices(control: Control, deviations: Deviations): void {
  for (const d of deviations) control.choices[deviationIndex(d)] = 1 + (d % 8);
}

export function eraseChoices(control: Control, deviations: Deviations): void {
  for (const d of deviations) control.choices[deviationIndex(d)] = 0;
}

/** `A12B3`: runs of events, an actor a letter. */
export function runsOf(trace: Trace, end = trace.length): string {
  let text = '';
  for (let i = 0; i < end; ) {
    let next = i;
    while (next < end && trace.actor(next) === trace.actor(i)) next++;
    text += String.fromCharCode(65 + trace.actor(i)) + (next - i);
    i = next;
  }
  return text;
}

/** The choices that such a text means, event by event; null: it is none. */
export function parseRuns(text: string): number[] | null {
  if (!/^([A-H]\d{1,5})*$/.test(text)) return null;
  return [...text.matchAll(/([A-H])(\d+)/g)].flatMap(([, letter = 'A', count = '0']) =>
    new Array<number>(Number(count)).fill(letter.charCodeAt(0) - 65),
  );
}
