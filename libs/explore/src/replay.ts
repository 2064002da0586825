// One schedule again, step by step: who took which step, what it changed, which locks were held. And whether it still is the run
// that was written down.
import { argumentsAt } from './arguments.ts';
import { type Finding, findingsOf } from './checker.ts';
import type { Said } from './mail.ts';
import { type Recorded, ReplayStringError } from './replay-string.ts';
import { parseRuns } from './schedule.ts';
import { StateCheck } from './state-check.ts';
import { describeKind } from './step-kinds.ts';
import { Trace } from './trace.ts';
import type { Troupe } from './troupe.ts';

export interface ReplayStep {
  readonly index: number;
  readonly actor: string;
  readonly kind: string;
  /** With what it is about. */
  readonly text: string;
  /** What was different after it. */
  readonly changes: readonly string[];
  /** Locks of the actor after it. */
  readonly held: string;
  /** Preemptions so far. */
  readonly preemptions: number;
  readonly lines: readonly string[];
  readonly findings: readonly { readonly invariant: string; readonly text: string }[];
}

export interface ReplayReport {
  readonly title: string;
  readonly source: string;
  readonly variant: string;
  readonly what: string;
  readonly actors: readonly { readonly name: string; readonly hardware: boolean }[];
  readonly steps: readonly ReplayStep[];
  /** Found at rest, when all had ended. */
  readonly atRest: readonly Finding[];
  readonly hash: string;
  readonly policies: Readonly<Record<string, string>>;
}

/** Throws ReplayStringError when the test is not the one that the string was printed of. */
export function replay(troupe: Troupe, recorded: Recorded): ReplayReport {
  const { test } = troupe;
  const variant = test.variants[recorded.variant];
  if (variant === undefined) {
    throw new ReplayStringError(
      `the test has no variant '${recorded.variant}'`,
      `it has ${Object.keys(test.variants).join(', ')}`,
    );
  }
  const places = recorded.args ?? [];
  if (argumentsAt(test, places) === null) {
    throw new ReplayStringError(
      "the string's arguments are none of the test's",
      'the test has changed since: run `hostloom explore` again',
    );
  }
  troupe.attach(recorded.variant, { kind: 'replay' }, { detail: true, places, mutants: recorded.mutant !== undefined });
  const choices = parseRuns(recorded.runs) ?? [];
  for (const [index, actor] of choices.entries()) troupe.control.choices[index] = 1 + actor;
  const { failAt, operations, mutant } = recorded;
  const played = troupe.play({
    detail: true,
    ...(failAt === undefined ? {} : { failAt }),
    ...(operations === undefined ? {} : { operations }),
    ...(mutant === undefined ? {} : { mutant }),
  });
  troupe.control.choices.fill(0, 0, choices.length);
  if (played.hash !== recorded.hash) {
    const remedy = 'the test, its policies or the model have changed since: run `hostloom explore` again';
    throw new ReplayStringError('the schedule does not go as it was written down', remedy);
  }
  const trace = new Trace(troupe.control, troupe.hardware);
  const findings = findingsOf(troupe, played, () => trace, new StateCheck(troupe.host));
  return {
    title: test.title,
    source: test.source,
    variant: recorded.variant,
    what: variant.what,
    actors: troupe.names.map((name, actor) => ({ name, hardware: troupe.hardware[actor] === true })),
    steps: stepsOf(troupe, trace, played.said, findings),
    atRest: findings.filter(({ actor }) => actor < 0),
    hash: played.hash,
    policies: { ...troupe.host.config.policies },
  };
}

function stepsOf(troupe: Troupe, trace: Trace, said: readonly Said[], findings: readonly Finding[]): ReplayStep[] {
  return Array.from({ length: trace.length }, (_, index) => {
    const changes = said.find((s) => s.is === 'changes' && s.of === index);
    return {
      index,
      actor: troupe.names[trace.actor(index)] ?? '?',
      kind: describeKind(trace.kind(index)),
      text: troupe.describe(trace.kind(index), trace.where(index)),
      changes: changes?.is === 'changes' ? changes.changes : [],
      held: changes?.is === 'changes' ? changes.held : '{}',
      preemptions: trace.spent[index + 1] as number,
      // What is said after n events is said by the n-th.
      lines: said.flatMap((s) => (s.is === 'line' && s.at === index + 1 ? [s.text] : [])),
      findings: findings
        .filter(({ at, actor }) => actor >= 0 && at === index + 1)
        .map(({ invariant, text }) => ({ invariant, text })),
    };
  });
}
