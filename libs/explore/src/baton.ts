// The baton: of all threads of an exploration one runs, and at each of its steps hands over to whom the scheduler names. It is
// what `step` and `park` of the model's seam do in these threads. It knows when an actor cannot go on (a mutex it would wait
// for, a word that must change first), and it keeps the record of what happened. It knows no invariant.
//
// Where no switch happens no thread is woken: a choice is a few loads. A switch is one store, one futex wake and one wait.

import { HostPanic } from '#model/shared-memory/panic';
import { stepKind } from '#model/shared-memory/step';
import { actorStatus, actorWord, type Control, detailBit, endReason, RESUMED, runState, word } from './control.ts';
import { say } from './mail.ts';
import type { Mutator } from './mutator.ts';
import type { Progress } from './progress.ts';
import type { Scheduler } from './schedulers/scheduler.ts';

/** Thrown through the model's code when the schedule is over for an actor that was in the middle of something. */
export class ScheduleOver extends Error {
  override readonly name = 'ScheduleOver';
}

/** What a scheduler must know of locks: the model's table, or a paper host's. */
export interface LockView {
  /** Would taking it make that CPU wait, and do nothing else? */
  wouldWait(lock: number, cpu: number): boolean;
  /** The lock that a word belongs to, or -1. */
  lockOfWord(words: Int32Array<SharedArrayBuffer>, index: number): number;
  /** All words of a lock; the first is 0 while nobody has it. */
  wordsOf(lock: number): Int32Array<SharedArrayBuffer>;
}

export interface Participant {
  readonly index: number;
  /** The CPU number of each actor. */
  readonly cpus: readonly number[];
  /** Whether each is hardware: it may be left for nothing. */
  readonly hardware: readonly boolean[];
  readonly locks: LockView;
  readonly buffers: readonly SharedArrayBuffer[];
  /** errno of a step kind that can fail, by its number; undefined: it cannot. */
  readonly fallible: readonly (number | undefined)[];
  /** Leaves a step out; null: not in this troupe. */
  readonly mutator: Mutator | null;
  /** Notices an actor that repeats a state. */
  readonly progress: Progress;
  /** Called at each event when detail is wanted. */
  readonly describe: () => void;
}

/** Looks at the own word before sleeping on it; a hand-over takes some 5 µs through the kernel. */
const SPINS = 300;

export class Baton {
  private readonly control: Control;
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly me: number;
  private readonly own: number;
  private readonly actors: number;
  private readonly who: Participant;
  private readonly views: readonly Int32Array<SharedArrayBuffer>[];
  private readonly scheduler: Scheduler;
  private readonly mutator: Mutator | null;
  /** This thread is inside its actor, and the schedule is not over. */
  private running = false;
  /** It was chosen before its first step was known. */
  private granted = false;

  constructor(control: Control, who: Participant, scheduler: Scheduler) {
    this.control = control;
    this.words = control.words;
    this.me = who.index;
    this.own = control.actor(who.index);
    this.actors = who.cpus.length;
    this.who = who;
    this.views = who.buffers.map((buffer) => new Int32Array(buffer, 0, buffer.byteLength >> 2));
    this.scheduler = scheduler;
    this.mutator = who.mutator;
  }

  /** The model is about to take a step. 0, or the errno with which it fails. */
  step(kind: number, where: number): number {
    if (!this.running) return 0;
    const { mutator } = this;
    mutator?.leave();
    // A lock that is left out keeps nobody away: no scheduler and no reduction may take it for one.
    const seen = mutator?.ignoresLock(kind, where) === true ? stepKind.read : kind;
    this.words[this.own + actorWord.kind] = seen;
    this.control.wheres[this.me] = where;
    if (this.granted) this.granted = false;
    else this.choose(seen, true);
    this.record(seen, where);
    mutator?.enter(kind, where);
    const error = this.who.fallible[kind];
    if (error === undefined) return 0;
    const count = this.words[word.fallible] as number;
    this.words[word.fallible] = count + 1;
    return count === this.words[word.failAt] ? error : 0;
  }

  /** The model waits until `words[index]` is no longer `expected`. */
  park(words: Int32Array<SharedArrayBuffer>, index: number, expected: number): void {
    if (!this.running) throw new ScheduleOver('waiting outside a schedule');
    const { own, who } = this;
    who.mutator?.leave();
    this.words[own + actorWord.waitBuffer] = this.who.buffers.indexOf(words.buffer);
    this.words[own + actorWord.waitIndex] = (words.byteOffset >> 2) + index;
    this.words[own + actorWord.waitExpected] = expected;
    this.words[own + actorWord.status] = actorStatus.blocked;
    this.choose(RESUMED, false);
    this.words[own + actorWord.status] = actorStatus.ready;
    this.record(RESUMED, who.locks.lockOfWord(words, index));
    who.mutator?.enter(null, -1);
  }

  private canGoOn(actor: number): boolean {
    const { words } = this;
    const at = this.control.actor(actor);
    switch (words[at + actorWord.status]) {
      case actorStatus.notStarted:
        return true;
      case actorStatus.ready: {
        if (words[at + actorWord.kind] !== stepKind.lock) return true;
        const lock = this.control.wheres[actor] as number;
        return !this.who.locks.wouldWait(lock, this.who.cpus[actor] as number);
      }
      case actorStatus.blocked: {
        const view = this.views[words[at + actorWord.waitBuffer] as number] as Int32Array<SharedArrayBuffer>;
        return Atomics.load(view, words[at + actorWord.waitIndex] as number) !== words[at + actorWord.waitExpected];
      }
      default:
        return false;
    }
  }

  private enabled(): number {
    let mask = 0;
    for (let actor = 0; actor < this.actors; actor++) if (this.canGoOn(actor)) mask |= 1 << actor;
    return mask;
  }

  /** Of one that repeats itself, the others: it may go on when one of them has had its turn. Alone, it never will. */
  private enabledHere(): number {
    const enabled = this.enabled();
    if (enabled === 0) this.abort(endReason.deadlock);
    const index = this.words[word.events] as number;
    if (index < this.who.progress.next || !this.who.progress.repeats(index)) return enabled;
    const others = enabled & ~(1 << this.me);
    if (others === 0) this.abort(endReason.noProgress);
    this.who.progress.next = index + 1;
    return others;
  }

  /** Asks the scheduler, and comes back when it is this actor's turn. `goes`: it has a step to take now. */
  private choose(kind: number, goes: boolean): void {
    const { words, me } = this;
    const enabled = this.enabledHere();
    const costs = goes && kind !== stepKind.yield && (enabled & (1 << me)) !== 0 && this.who.hardware[me] === false;
    const next = this.scheduler.pick(me, enabled, costs, words[word.events] as number, kind);
    if (next < 0) this.abort(endReason.givenUp);
    words[word.enabled] = enabled;
    if (next === me) return;
    if (costs) words[word.preemptions] = (words[word.preemptions] as number) + 1;
    this.pass(next);
    this.awaitTurn();
    if (words[word.run] !== runState.running) throw new ScheduleOver('the schedule was given up');
  }

  private record(kind: number, where: number): void {
    const { words, control } = this;
    const index = words[word.events] as number;
    if (index >= (words[word.limit] as number)) this.abort(endReason.limit);
    if (((words[word.detail] as number) & detailBit.changes) !== 0) this.who.describe();
    const event = kind + 256 * this.me;
    control.eventKinds[index] = event;
    control.eventWheres[index] = where;
    control.eventEnabled[index] = words[word.enabled] as number;
    words[word.events] = index + 1;
    const low = (where | 0) ^ Math.imul((where / 2 ** 32) | 0, 0x27d4eb2f) ^ Math.imul(event, 0x9e3779b1);
    words[word.hashLow] = Math.imul((words[word.hashLow] as number) ^ low, 0x01000193);
    const high = Math.imul((words[word.hashHigh] as number) ^ (low + index), 0x85ebca6b);
    words[word.hashHigh] = high ^ (high >>> 15);
  }

  private pass(next: number): void {
    Atomics.store(this.words, word.current, next);
    this.wake(next);
  }

  private wake(participant: number): void {
    const go = this.control.actor(participant) + actorWord.go;
    Atomics.store(this.words, go, 1);
    Atomics.notify(this.words, go, 1);
  }

  /**
   * Sleeps until this thread is called. Who ends a schedule says so first and calls the coordinator then: if it saw the former, the
   * call comes late, into the next schedule, and is nobody's turn.
   */
  awaitTurn(): void {
    const { words } = this;
    const go = this.own + actorWord.go;
    do {
      for (let i = 0; i < SPINS; i++) if (Atomics.load(words, go) !== 0) break;
      while (Atomics.exchange(words, go, 0) === 0) Atomics.wait(words, go, 0);
    } while (Atomics.load(words, word.run) === runState.running && Atomics.load(words, word.current) !== this.me);
  }

  /** Runs the own actor, from its beginning to its end or the end of the schedule. False: it was broken off. */
  play(body: () => void): boolean {
    const { words } = this;
    words[this.own + actorWord.status] = actorStatus.ready;
    Atomics.add(words, word.live, 1);
    this.running = true;
    this.granted = true;
    let whole = false;
    try {
      this.mutator?.begin();
      this.who.progress.begin();
      body();
      this.mutator?.leave();
      this.running = false;
      whole = true;
      this.finish();
    } catch (error) {
      this.brokenOff(error);
    }
    this.running = false;
    Atomics.sub(words, word.live, 1);
    Atomics.notify(words, word.live);
    return whole;
  }

  private brokenOff(error: unknown): void {
    if (this.words[word.run] === runState.aborting) return;
    const { message, stack = '' } = error instanceof Error ? error : new Error(String(error));
    const at = this.words[word.events] as number;
    say(this.control, { is: 'error', actor: this.me, at, panic: error instanceof HostPanic, message, stack });
    this.giveUp(endReason.thrown);
  }

  private finish(): void {
    const { words } = this;
    words[this.own + actorWord.status] = actorStatus.finished;
    const finished = (words[word.finished] as number) + 1;
    words[word.finished] = finished;
    if (finished === this.actors) {
      words[word.run] = runState.idle;
      if (this.me !== 0) this.wake(0);
      return;
    }
    const enabled = this.enabled();
    if (enabled === 0) this.abort(endReason.deadlock);
    const next = this.scheduler.pick(this.me, enabled, false, words[word.events] as number, -1);
    if (next < 0) this.abort(endReason.givenUp);
    words[word.enabled] = enabled;
    this.pass(next);
  }

  /** Ends the schedule for everybody. */
  private giveUp(reason: number): void {
    const { words } = this;
    words[word.reason] = reason;
    words[word.culprit] = this.me;
    Atomics.store(words, word.run, runState.aborting);
    for (let actor = 0; actor < this.actors; actor++) {
      const status = words[this.control.actor(actor) + actorWord.status];
      const inside = status === actorStatus.ready || status === actorStatus.blocked;
      if (actor !== this.me && (inside || actor === 0)) this.wake(actor);
    }
  }

  private abort(reason: number): never {
    this.running = false;
    this.giveUp(reason);
    throw new ScheduleOver('the schedule is given up');
  }
}
