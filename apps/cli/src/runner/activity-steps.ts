// The steps about what guests' kernels do among themselves: an activity is told to begin and is ready when it says so; it is finished
// when its attempts are made and it has come to its end. Its own violations reach the run by themselves.
import type { GuestEvents } from '#model/guest/guest-spec';
import { workloadId } from '../launcher/guest-kernel-options.ts';
import { type StepContext, StepFailed, type StepOf, untilRunning } from './step-context.ts';
import { stepText } from './step-text.ts';
import type { TwinState } from './twin-state.ts';

const READY_MS = 20_000;
const ATTEMPTS_MS = 60_000;
const END_MS = 20_000;

type Named = StepOf<'finish'>['activities'][number];
type Report = GuestEvents['activity'];

const idOf = ({ run }: Pick<Named, 'run'>): string => workloadId({ run } as Parameters<typeof workloadId>[0]); // by its name alone

const keyOf = ({ guest, run }: Named): string => `${guest}/${run}`;

/** The last report of an activity. */
function reportOf(state: TwinState, domid: number, named: Pick<Named, 'run'>): Report | null {
  return state.observer.guest(domid)?.activities.get(idOf(named)) ?? null;
}

const hasEnded = (state: TwinState, domid: number): boolean => {
  const seen = state.observer.guest(domid);
  return seen?.ended !== null || seen.panic !== null;
};

export async function beginActivity(step: StepOf<'begin'>, context: StepContext): Promise<string | null> {
  const { state, signal } = context;
  const domid = await state.domidOf(step.guest);
  const peers = await Promise.all(step.peers.map((peer) => state.domidOf(peer)));
  await untilRunning(step, domid, context);
  const turn = state.nextTurn();
  const order = { begin: true, turn, peers, attempts: step.attempts } as const;
  state.began.set(keyOf(step), { domid, wanted: step.attempts });
  await state.host.command(domid, { do: 'activity', id: idOf(step), order });
  const answered = (): boolean => reportOf(state, domid, step)?.turn === turn || hasEnded(state, domid);
  if (!(await state.observer.until(answered, READY_MS, signal))) {
    throw new StepFailed(step.line, `${stepText(step)}: no answer after ${READY_MS / 1000} s`, true);
  }
  const report = reportOf(state, domid, step);
  return report?.phase === 'failed' ? report.text : null;
}

interface Part {
  readonly named: Named;
  readonly domid: number;
  readonly wanted: number;
}

/** An activity whose domain is gone is over, and has made what it had reported. */
export async function finishActivities(step: StepOf<'finish'>, context: StepContext): Promise<string | null> {
  const { state, signal } = context;
  const parts: Part[] = [];
  for (const named of step.activities) {
    const begun = state.began.get(keyOf(named));
    if (!begun) return `${named.run} of ${named.guest} was not begun`;
    parts.push({ named, ...begun });
  }
  const isOver = ({ domid, named }: Part): boolean =>
    hasEnded(state, domid) || reportOf(state, domid, named)?.phase === 'over';
  const isMade = (part: Part): boolean =>
    isOver(part) || (reportOf(state, part.domid, part.named)?.attempts ?? 0) >= part.wanted;
  const made = await state.observer.until(() => parts.every(isMade), ATTEMPTS_MS, signal);
  if (!step.keep) for (const part of parts) if (!isOver(part)) await end(part, isOver, context);
  for (const part of parts) count(part, context);
  const late = step.keep ? undefined : parts.find((part) => !isOver(part));
  if (late) {
    const text = `${stepText(step)}: ${late.named.run} of ${late.named.guest} does not end`;
    throw new StepFailed(step.line, text, true);
  }
  if (made) return null;
  throw new StepFailed(step.line, `${stepText(step)}: too few attempts after ${ATTEMPTS_MS / 1000} s`, true);
}

async function end(part: Part, isOver: (part: Part) => boolean, { state, signal }: StepContext): Promise<void> {
  const order = { begin: false, turn: state.nextTurn() } as const;
  await state.host.command(part.domid, { do: 'activity', id: idOf(part.named), order });
  await state.observer.until(() => isOver(part), END_MS, signal);
}

/** Attempts are of those that were asked for some, and count once. */
function count({ named, domid, wanted }: Part, { state, progress }: StepContext): void {
  const report = reportOf(state, domid, named);
  if (wanted === 0 || !report) return;
  state.began.set(keyOf(named), { domid, wanted: 0 });
  state.attempts += report.attempts;
  progress(`${report.attempts} attempts of ${named.run} in ${named.guest}`);
}
