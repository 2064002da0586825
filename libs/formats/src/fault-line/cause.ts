// What a cause is: a stable code, what happened and what to do, as a rule that looks at one event and what is known beside it.
import type { AddressPlace, FaultContext } from './fault-context.ts';
import type { FaultEvent } from './fault-event.ts';

export interface Cause {
  readonly code: string;
  readonly text: string;
  readonly remedies: readonly string[];
}

export interface Evidence {
  readonly event: FaultEvent;
  readonly context: FaultContext;
  /** null: the event has no address. */
  readonly place: AddressPlace | null;
}

export interface CauseRule {
  readonly code: string;
  readonly when: (evidence: Evidence) => boolean;
  readonly text: (evidence: Evidence) => string;
  readonly remedies: (evidence: Evidence) => readonly string[];
}

export const causeOf = (rule: CauseRule, evidence: Evidence): Cause => ({
  code: rule.code,
  text: rule.text(evidence),
  remedies: rule.remedies(evidence),
});
