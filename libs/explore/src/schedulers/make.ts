// Schedulers by name, as plain data that can be sent to a thread.
import type { Control } from '../control.ts';
import { PctScheduler } from './pct.ts';
import { RandomScheduler } from './random.ts';
import { ReplayScheduler } from './replay.ts';
import type { Scheduler } from './scheduler.ts';
import { TimedScheduler } from './timed.ts';

export type SchedulerSpec =
  | { readonly kind: 'random' }
  | { readonly kind: 'pct'; readonly depth: number }
  | { readonly kind: 'replay' }
  | { readonly kind: 'timed' };

export function makeScheduler(spec: SchedulerSpec, control: Control, actors: number): Scheduler {
  switch (spec.kind) {
    case 'random':
      return new RandomScheduler(control);
    case 'pct':
      return new PctScheduler(control, actors, spec.depth);
    case 'replay':
      return new ReplayScheduler(control);
    case 'timed':
      return new TimedScheduler(control);
    default:
      return spec satisfies never;
  }
}
