// What the steps of a timeline share: how one fails, what it runs in, a verb of xl and how it ended, a kernel that must be up.
import type { Step } from '#formats/scenario';
import { stepText } from './step-text.ts';
import { DOM0, nowUs, type TwinState } from './twin-state.ts';

export type StepOf<D extends Step['do']> = Extract<Step, { do: D }>;

const GUEST_TIMEOUT_MS = 60_000;

/** A step did not end as the scenario says. `unknown`: it may have been too slow, nothing more. */
export class StepFailed extends Error {
  override readonly name = 'StepFailed';
  readonly line: number;
  readonly unknown: boolean;

  constructor(line: number, message: string, unknown = false) {
    super(message);
    this.line = line;
    this.unknown = unknown;
  }
}

export interface StepContext {
  readonly state: TwinState;
  readonly signal: AbortSignal;
  readonly progress: (text: string) => void;
}

/** As xl knows it. */
export const nameOf = (guest: string): string => (guest === DOM0 ? 'Domain-0' : guest);

export async function xl(state: TwinState, verb: string, args: readonly string[]): Promise<string | null> {
  const reply = await state.host.xl(verb, args);
  state.verbs.push({ ...reply, verb, tsUs: nowUs() - state.startedUs });
  return reply.exitCode === 0 ? null : reply.stderr.trim() || `xl ${verb} ended with status ${reply.exitCode}`;
}

export async function untilRunning(
  step: Step,
  domid: number,
  { state, signal }: Pick<StepContext, 'state' | 'signal'>,
) {
  const up = (): boolean => state.observer.guest(domid)?.running === true;
  if (await state.observer.until(up, GUEST_TIMEOUT_MS, signal)) return;
  throw new StepFailed(
    step.line,
    `${stepText(step)}: the guest's kernel is not up after ${GUEST_TIMEOUT_MS / 1000} s`,
    true,
  );
}
