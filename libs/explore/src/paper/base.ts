// The one step: announced to the scheduler, then done at once, then judged by what must hold always. Every method of the
// vocabulary is made of it.
import { park, type StepKind, step, stepKind } from '#model/shared-memory/step';
import { type AnyKindName, kindNumber } from './kinds.ts';
import { type LockMode, PaperLocks } from './locks.ts';
import { PaperMemory } from './memory.ts';
import type { PaperSpec } from './spec.ts';
import type { Steps } from './steps.ts';
import { Texts } from './texts.ts';

export type Violate = (invariant: string, text: string) => void;

export interface PaperPlace {
  readonly spec: PaperSpec;
  readonly buffer: SharedArrayBuffer;
  /** The actor; -1: nobody's, the start. */
  readonly actor: number;
  readonly violate: Violate;
  readonly args: Readonly<Record<string, number>>;
}

export class PaperBase {
  readonly memory: PaperMemory;
  readonly locks: PaperLocks;
  readonly texts: Texts;
  protected readonly spec: PaperSpec;
  protected readonly place: PaperPlace;

  constructor(place: PaperPlace) {
    const { spec, buffer, actor } = place;
    this.place = place;
    this.spec = spec;
    this.memory = new PaperMemory(buffer, Object.keys(spec.locks), Object.keys(spec.words), spec.tables);
    this.locks = new PaperLocks(this.memory, Object.values(spec.locks), actor);
    this.texts = new Texts(this.memory);
  }

  /** The value that a combination of arguments gives to a name. */
  arg(name: string): number {
    const value = this.place.args[name];
    if (value === undefined) throw new Error(`the test has no argument '${name}'`);
    return value;
  }

  /** Says that an invariant does not hold, unless it does. */
  require(holds: boolean, invariant: string, text: string): void {
    if (!holds) this.place.violate(invariant, text);
  }

  /**
   * Any atomic step: `subject` says for a person what it is about, `effect` is what happens, all at once. A kind that can fail does
   * nothing when it does; then the answer is undefined.
   */
  step<T>(kind: AnyKindName, subject: string, effect: () => T): T | undefined {
    // The seam takes any number; those beyond the model's are the explorer's own.
    if (step(kindNumber(kind) as StepKind, this.texts.numberOf(subject)) !== 0) return undefined;
    const result = effect();
    for (const [name, holds] of Object.entries(this.spec.always)) {
      const told = holds(this as unknown as Steps); // Steps is what every instance is
      if (told !== true) this.place.violate(name, told);
    }
    return result;
  }

  lock(name: string, mode: LockMode = 'exclusive'): void {
    this.locks.lock(name, mode);
  }

  unlock(name: string): void {
    this.locks.unlock(name);
  }

  /** Takes the lock if nobody has it. */
  tryLock(name: string): boolean {
    return this.locks.tryLock(name);
  }

  /** A continuation: anybody may run, at no price. The program holds no lock there. */
  yield(): void {
    this.step('yield', 'continuation', () => {});
  }

  /** Blocks until the predicate holds; it is looked at whenever something has changed. */
  waitFor(why: string, ready: () => boolean): void {
    step(stepKind.waitFor, this.texts.numberOf(why));
    for (;;) {
      const { words, version } = this.memory;
      const seen = this.memory.get(version);
      if (ready()) return;
      park(words, version, seen, 0);
    }
  }

  /** A named number, without a step: for predicates and judgements. */
  look(name: string): number {
    return this.memory.get(this.memory.word(name));
  }
  /** For use inside of `step`. */
  put(name: string, value: number): void {
    this.memory.set(this.memory.word(name), value);
  }

  read(name: string): number {
    return this.step('read', name, () => this.look(name)) ?? 0;
  }
  write(name: string, value: number): void {
    this.step('write', `${name} := ${value}`, () => this.put(name, value));
  }
  /** Adds, and answers what it is then. */
  count(name: string, delta: number): number {
    const sign = delta < 0 ? '-' : '+';
    return (
      this.step('count', `${name} ${sign}= ${Math.abs(delta)}`, () => {
        this.put(name, this.look(name) + delta);
        return this.look(name);
      }) ?? 0
    );
  }
  cmpxchg(name: string, expected: number, value: number): boolean {
    return (
      this.step('cmpxchg', `${name}: ${expected} → ${value}`, () => {
        if (this.look(name) !== expected) return false;
        this.put(name, value);
        return true;
      }) ?? false
    );
  }
  /** Earlier stores are seen before later ones: each step here is in order anyway, so that it only stands for itself. */
  barrier(): void {
    this.step('barrier', 'stores', () => {});
  }
}
