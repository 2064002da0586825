// An activity: something a guest's kernel does on several of its vCPUs at once when a scenario says so, and reports on. Owns how
// one begins, runs slice by slice among the kernel's other tasks, and ends; what it does is its kind's (table.ts).
//
//   order to begin   first vCPU: open, "ready"        the others: from then on
//   slices           each vCPU its part, until the order to end
//   order to end     all parts stop; first vCPU: close, "over"
import type { Violation } from '../../host.ts';
import { HostPanic } from '../../shared-memory/panic.ts';
import type { GuestMemory } from '../guest-memory.ts';
import { GuestPanic } from '../guest-panic.ts';
import type { GuestSpec } from '../guest-spec.ts';
import type { Task, TaskContext } from '../task.ts';
import { Board, boardState } from './board.ts';
import type { ActivityOrder, ActivityPhase, SharingPolicies } from './spec.ts';

/** How often a vCPU that waits for another one of its activity looks, in guest milliseconds. */
const POLL_MS = 10;
const REPORT_MS = 200;
/** Violations of one name that are each told; of the others the number. */
const TOLD = 40;

/** Where an activity takes its memory at boot. */
export interface BootPlace {
  readonly guest: GuestSpec;
  readonly memory: GuestMemory;
  /** gfns from here on are used by nothing: a GiB of them is this activity's. */
  readonly unusedGfn: number;
}

export interface ActivityContext<S, D, F extends string> {
  readonly spec: S;
  readonly data: D;
  readonly board: Board<F>;
  readonly task: TaskContext;
  readonly vcpu: number;
  readonly sharing: SharingPolicies;
  readonly unusedGfn: number;
  readonly violation: (v: Violation) => void;
}

/** What one vCPU does of an activity, from one order to begin to the order to end. */
export interface Part {
  /** On the first vCPU, before the others do anything: null, or why it cannot begin. */
  open?(): string | null;
  /** Answers when it wants to go on: `now` = at once. */
  slice(now: number): number;
  /** On the first vCPU, when the others have stopped. */
  close?(): void;
}

export interface ActivityKind<S, D, F extends string> {
  /** What it counts. */
  readonly figures: readonly F[];
  /** vCPUs it takes; its roles are numbered from 0. */
  readonly roles: number;
  /** Roles that may sleep in Xen for ever: the end does not wait for them. */
  readonly sleepers: readonly number[];
  /** Memory that its vCPUs share; structured-cloneable. */
  boot(spec: S, place: BootPlace): D;
  part(context: ActivityContext<S, D, F>, role: number): Part;
}

/** vCPU of a role: not the balloon's, where there are enough others. */
export const vcpuOfRole = (vcpus: number, roles: number, role: number): number => (vcpus > roles ? role + 1 : role);

/** One role of one activity, as a task of the kernel. */
export class ActivityTask<S, D, F extends string> implements Task {
  readonly id: string;
  /** Under which orders and reports name the activity. */
  private readonly activity: string;
  private readonly kind: ActivityKind<S, D, F>;
  private readonly role: number;
  private readonly context: ActivityContext<S, D, F>;
  private readonly told = new Map<string, { count: number; last: Violation; untold: number }>();
  private part: Part | null = null;
  /** The order its part belongs to, the last one heard, and the last to end that it has followed. */
  private turn = 0;
  private heard = 0;
  private parkedAt = 0;
  private reportAt = 0;

  constructor(
    activity: string,
    kind: ActivityKind<S, D, F>,
    role: number,
    context: Omit<ActivityContext<S, D, F>, 'violation' | 'board'>,
    board: SharedArrayBuffer,
  ) {
    this.id = `${activity}/${role}`;
    this.activity = activity;
    this.kind = kind;
    this.role = role;
    const violation = (v: Violation): void => this.tell(v);
    this.context = { ...context, board: new Board(board, kind.figures), violation };
  }

  /** Every vCPU is given every order. */
  order(activity: string, order: ActivityOrder): boolean {
    if (activity !== this.activity) return false;
    const { board } = this.context;
    if (order.begin) board.begin(order.turn, order.peers, order.attempts);
    else board.end(order.turn);
    this.heard = Math.max(this.heard, order.turn);
    return true;
  }

  step(now: number): number {
    try {
      return this.play(now);
    } catch (error) {
      if (!(error instanceof HostPanic)) throw error;
      // As hung_task_panic: a kernel of which a part hangs is no kernel.
      throw new GuestPanic(error.message);
    }
  }

  private play(now: number): number {
    const { board } = this.context;
    if (!board.hasSettled(this.heard)) return now + POLL_MS;
    switch (board.state) {
      case boardState.opening:
        return this.role === 0 ? this.open(now) : now + POLL_MS;
      case boardState.running:
        return this.run(now);
      case boardState.ending:
        return this.end(now);
      default:
        this.part = null;
        return Number.POSITIVE_INFINITY;
    }
  }

  private open(now: number): number {
    const { board } = this.context;
    const part = this.enter();
    const problem = part.open?.() ?? null;
    if (problem !== null) {
      board.state = boardState.failed;
      this.report('failed', problem);
      return Number.POSITIVE_INFINITY;
    }
    board.state = boardState.running;
    this.report('ready');
    return now;
  }

  private enter(): Part {
    this.turn = this.context.board.begun;
    this.part = this.kind.part(this.context, this.role);
    return this.part;
  }

  private run(now: number): number {
    const { board } = this.context;
    const part = this.part && this.turn === board.begun ? this.part : this.enter();
    const next = part.slice(now);
    if (now >= this.reportAt || board.enough) {
      this.reportAt = now + REPORT_MS;
      if (this.role === 0) this.report('progress');
      else this.flush();
    }
    return board.state === boardState.running ? next : now;
  }

  private end(now: number): number {
    const { board } = this.context;
    if (this.role !== 0) {
      if (this.parkedAt !== board.turn && !this.kind.sleepers.includes(this.role)) board.park();
      this.parkedAt = board.turn;
      this.part = null;
      this.flush();
      return Number.POSITIVE_INFINITY;
    }
    if (board.parked < this.kind.roles - 1 - this.kind.sleepers.length) return now + POLL_MS;
    this.part?.close?.();
    this.part = null;
    board.state = boardState.idle;
    this.report('over');
    return Number.POSITIVE_INFINITY;
  }

  private report(phase: ActivityPhase, text = ''): void {
    this.flush();
    const { board, task } = this.context;
    const { turn, attempts } = board;
    task.sink.event('activity', { id: this.activity, phase, turn, attempts, figures: board.figures(), text });
  }

  private tell(v: Violation): void {
    const seen = this.told.get(v.invariant) ?? { count: 0, last: v, untold: 0 };
    this.told.set(v.invariant, seen);
    seen.last = v;
    if (++seen.count > TOLD) seen.untold++;
    else this.say(v, 1);
  }

  private say({ invariant, text, evidence }: Violation, count: number): void {
    this.context.task.sink.event('violation', { id: this.activity, invariant, text, count, evidence });
  }

  private flush(): void {
    for (const seen of this.told.values()) {
      if (seen.untold > 0) this.say(seen.last, seen.untold);
      seen.untold = 0;
    }
  }

  stop(): void {
    this.part = null;
  }
}
