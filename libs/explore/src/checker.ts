// What was wrong with a schedule: what its actors said, how it ended, and what the state invariants say now that nobody runs.
import { endReason } from './control.ts';
import { waitForGraph } from './deadlock.ts';
import { repetition } from './repetition.ts';
import type { StateCheck } from './state-check.ts';
import type { Trace } from './trace.ts';
import type { Played, Troupe } from './troupe.ts';

export interface Finding {
  readonly invariant: string;
  readonly text: string;
  /** Events that had happened; of a state invariant, all of them. */
  readonly at: number;
  /** The actor at whose step it was found; -1: at rest. */
  readonly actor: number;
}

/** An actor threw something: the test (or the model) is wrong, and no verdict is possible. */
export class ActorFailed extends Error {
  override readonly name = 'ActorFailed';
  readonly at: number;

  constructor(actor: string, at: number, stack: string) {
    super(`${actor} broke off after ${at} steps: ${stack}`);
    this.at = at;
  }
}

/** `states`: checks the state invariants too. */
export function findingsOf(troupe: Troupe, played: Played, trace: () => Trace, states: StateCheck | null): Finding[] {
  const findings: Finding[] = [];
  for (const said of played.said) {
    if (said.is === 'violation') {
      findings.push({ invariant: said.invariant, text: said.text, at: said.at, actor: said.actor });
    } else if (said.is === 'error') {
      if (!said.panic) throw new ActorFailed(troupe.names[said.actor] ?? '?', said.at, said.stack || said.message);
      findings.push({ invariant: 'hostDoesNotPanic', text: said.message, at: said.at, actor: said.actor });
    }
  }
  const { events: at, culprit: actor } = played;
  if (played.reason === endReason.deadlock) {
    findings.push({ invariant: 'noWaitForCycle', text: waitForGraph(troupe), at, actor });
  } else if (played.reason === endReason.limit) {
    findings.push({ invariant: 'callsMakeProgress', text: repetition(trace(), actor, troupe.names), at, actor });
  } else if (played.reason === endReason.noProgress) {
    const text = `${repetition(trace(), actor, troupe.names)}; each time everything is as it was`;
    findings.push({ invariant: 'callsMakeProgress', text, at, actor });
  } else if (played.reason === endReason.all && states !== null) {
    const violations = troupe.paper === null ? states.violations() : troupe.paper.atRest();
    for (const { invariant, text } of violations) findings.push({ invariant, text, at, actor: -1 });
  }
  return findings;
}
