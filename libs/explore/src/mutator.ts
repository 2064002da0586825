// Leaves one step of an actor out, for the teeth test: what it stored or flushed is undone before anybody else can see it, a lock
// that it took is one that nobody else knows of. The actor itself goes on as if it had done it. Part of an actor's baton, which says
// when the actor is about to be left and when it has come back.
import type { LockView } from './baton.ts';
import { type Control, word } from './control.ts';
import { isLockStep } from './step-kinds.ts';

export interface MutatorPlace {
  readonly actor: number;
  /** All that a step can change, but for locks. */
  readonly state: readonly Int32Array<SharedArrayBuffer>[];
  readonly locks: LockView;
  /** What caches hold, as one text. */
  cached(): string;
}

export class Mutator {
  private readonly control: Control;
  private readonly place: MutatorPlace;
  private wanted = -1;
  private step = 0;
  private before: Int32Array[] | null = null;
  /** The lock left out, while this actor believes that it holds it; -1: none. */
  private lock = -1;
  private own: Int32Array | null = null;
  private theirs: Int32Array | null = null;

  constructor(control: Control, place: MutatorPlace) {
    this.control = control;
    this.place = place;
  }

  /** Before each schedule, in the actor's thread. */
  begin(): void {
    const mine = this.control.get(word.mutantActor) === this.place.actor;
    this.wanted = mine ? this.control.get(word.mutantStep) : -1;
    this.step = 0;
    this.before = null;
    this.lock = -1;
  }

  /** The actor stops before its next step, its end, or a wait: others may run now. */
  leave(): void {
    if (this.before !== null) this.undo(this.before);
    if (this.lock >= 0) {
      const words = this.lockWords();
      this.own = words.slice();
      words.set(this.theirs as Int32Array);
      if (this.own[0] === 0) this.lock = -1; // given back
    }
  }

  /** May the actor take this step whoever holds the lock? */
  ignoresLock(kind: number, where: number): boolean {
    return isLockStep(kind) && ((this.lock === where && this.lock >= 0) || this.step === this.wanted);
  }

  /** It is the actor's turn: it takes a step now (`kind`), or goes on after a wait (null). */
  enter(kind: number | null, where: number): void {
    const target = kind !== null && this.step++ === this.wanted;
    if (target && isLockStep(kind)) {
      this.lock = where;
      this.own = this.lockWords().map(() => 0);
      this.control.words[word.mutantEffect] = 1;
    } else if (target) this.before = this.place.state.map((part) => part.slice());
    if (this.lock < 0) return;
    const words = this.lockWords();
    this.theirs = words.slice();
    words.set(this.own as Int32Array);
  }

  private lockWords(): Int32Array<SharedArrayBuffer> {
    return this.place.locks.wordsOf(this.lock);
  }

  private undo(before: readonly Int32Array[]): void {
    this.before = null;
    const flushed = this.place.cached();
    let changed = 0;
    for (const [i, part] of this.place.state.entries()) {
      const old = before[i] as Int32Array; // one for each
      for (let at = 0; at < part.length; at++) {
        if (part[at] === old[at]) continue;
        part[at] = old[at] as number;
        changed++;
      }
    }
    this.control.words[word.mutantEffect] = changed;
    if (changed > 0 && this.place.cached() !== flushed) this.control.words[word.mutantFlushed] = 1;
  }
}
