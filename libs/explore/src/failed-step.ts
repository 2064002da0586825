// Which step it was that a schedule let fail, in words.
import type { Trace } from './trace.ts';
import type { Troupe } from './troupe.ts';

export function failedStep(troupe: Troupe, trace: Trace, failAt: number): string {
  let seen = 0;
  for (let i = 0; i < trace.length; i++) {
    if (!troupe.fallible(trace.kind(i)) || seen++ !== failAt) continue;
    return `${troupe.describe(trace.kind(i), trace.where(i))} of ${troupe.names[trace.actor(i)] ?? '?'}`;
  }
  return 'a step that was not reached';
}
