// Why a twin ended as it did, in words, from what was observed. Owns the choice of what needs explaining; each cause has a file of
// its own. A sentence says only what the run's own evidence shows.
import type { Explanation } from '#report/verdict';
import type { Snapshot } from '../runner/snapshot.ts';
import type { TwinState } from '../runner/twin-state.ts';
import { explainController } from './controller.ts';
import { explainGntdev } from './gntdev.ts';
import { explainLookup } from './lookup.ts';
import { explainPod } from './pod.ts';
import { explainRefusal } from './refusal.ts';
import { explainReserved } from './reserved.ts';
import { explainSharedGpu } from './shared-gpu.ts';
import { explainSharing } from './sharing.ts';
import { explainShatter } from './shatter.ts';
import { explainWindows } from './windows.ts';

export function explain(state: TwinState, snapshot: Snapshot | null): Explanation[] {
  const causes = [
    explainPod(state, snapshot),
    explainReserved(state, snapshot),
    explainController(state, snapshot),
    explainWindows(state),
    explainShatter(state, snapshot),
    explainSharedGpu(state, snapshot),
    explainSharing(state),
    explainGntdev(state),
    explainLookup(state),
    explainRefusal(state),
  ];
  return causes.filter((explanation) => explanation !== null);
}
