// Locks of a paper host: mutex, recursive mutex, and the fair reader/writer lock in which a waiting writer stops new readers (also
// one of an actor that reads already: what ARM-rwlock is about). Who would wait is known before the step, as in the model.
import { park, type StepKind, step, stepKind } from '#model/shared-memory/step';
import { lockField, type PaperMemory } from './memory.ts';
import type { LockKind } from './spec.ts';

export type LockMode = 'exclusive' | 'shared';

export class PaperLocks {
  private readonly memory: PaperMemory;
  private readonly kinds: readonly LockKind[];
  /** Of this thread's actor. */
  private readonly me: number;
  /** Shared holds of this actor, by lock. */
  private readonly reading: number[];

  constructor(memory: PaperMemory, kinds: readonly LockKind[], me: number) {
    this.memory = memory;
    this.kinds = kinds;
    this.me = me;
    this.reading = kinds.map(() => 0);
  }

  /** Before each schedule. */
  begin(): void {
    this.reading.fill(0);
  }

  id(name: string): number {
    const found = this.memory.lockNames.indexOf(name);
    if (found < 0)
      throw new Error(`the step program has no lock '${name}': it has ${this.memory.lockNames.join(', ')}`);
    return found;
  }

  nameOf(lock: number): string {
    return this.memory.lockNames[lock] ?? `lock ${lock}`;
  }

  private at(lock: number, field: number): number {
    return this.memory.lock(lock) + field;
  }
  private get(lock: number, field: number): number {
    return this.memory.get(this.at(lock, field));
  }
  private add(lock: number, field: number, n: number): void {
    this.memory.set(this.at(lock, field), this.get(lock, field) + n);
  }

  heldByMe(lock: number): boolean {
    return this.get(lock, lockField.owner) === this.me + 1 || (this.reading[lock] as number) > 0;
  }

  /** For the scheduler: of a mutex only, because to wait for a fair lock already changes what others may do. */
  wouldWait(lock: number, actor: number): boolean {
    return (
      this.kinds[lock] !== 'fair' &&
      this.get(lock, lockField.state) !== 0 &&
      this.get(lock, lockField.owner) !== actor + 1
    );
  }

  lockOfWord(words: Int32Array, index: number): number {
    if (words.buffer !== this.memory.words.buffer) return -1;
    const lock = Math.floor((index - this.memory.lock(0)) / lockField.of);
    return lock >= 0 && lock < this.kinds.length ? lock : -1;
  }

  wordsOf(lock: number): Int32Array<SharedArrayBuffer> {
    return this.memory.words.subarray(this.memory.lock(lock), this.memory.lock(lock) + lockField.of);
  }

  lock(name: string, mode: LockMode): void {
    const lock = this.id(name);
    step(stepKind.lock, lock);
    if (this.takenAgain(lock, mode)) return;
    if (!this.attempt(lock, mode)) this.wait(lock, mode);
    if (mode === 'shared') this.setReading(lock, 1);
  }

  private setReading(lock: number, times: number): void {
    this.reading[lock] = times;
    const others = this.get(lock, lockField.readers) & ~(1 << this.me);
    this.memory.set(this.at(lock, lockField.readers), times > 0 ? others | (1 << this.me) : others);
  }

  /** Where the lock allows it to its holder. */
  private takenAgain(lock: number, mode: LockMode): boolean {
    const kind = this.kinds[lock];
    if (this.get(lock, lockField.owner) === this.me + 1) {
      if (kind === 'mutex') throw new Error(`${this.nameOf(lock)} is taken twice by one actor, and is not recursive`);
      this.add(lock, lockField.depth, 1);
      return true;
    }
    if ((this.reading[lock] as number) === 0) return false;
    if (mode === 'exclusive') throw new Error(`${this.nameOf(lock)} is to be written by an actor that reads it`);
    // A reader queues behind a writer that waits, even if it reads already.
    if (!this.attempt(lock, 'shared')) this.wait(lock, 'shared');
    this.setReading(lock, (this.reading[lock] as number) + 1);
    return true;
  }

  private attempt(lock: number, mode: LockMode): boolean {
    const state = this.get(lock, lockField.state);
    if (mode === 'exclusive') {
      if (state !== 0) return false;
      this.memory.set(this.at(lock, lockField.state), -1);
      this.memory.set(this.at(lock, lockField.owner), this.me + 1);
      return true;
    }
    if (state < 0 || this.get(lock, lockField.writersWaiting) > 0) return false;
    this.add(lock, lockField.state, 1);
    return true;
  }

  private wait(lock: number, mode: LockMode): void {
    if (mode === 'exclusive') this.add(lock, lockField.writersWaiting, 1);
    for (;;) {
      const { words, version } = this.memory;
      const seen = this.memory.get(version);
      if (this.attempt(lock, mode)) break;
      park(words, version, seen, 0);
    }
    if (mode === 'exclusive') this.add(lock, lockField.writersWaiting, -1);
  }

  tryLock(name: string): boolean {
    const lock = this.id(name);
    step(stepKind.tryLock, lock);
    return !this.heldByMe(lock) && this.attempt(lock, 'exclusive');
  }

  unlock(name: string): void {
    const lock = this.id(name);
    step(stepKind.unlock as StepKind, lock);
    if ((this.reading[lock] as number) > 0) {
      this.setReading(lock, (this.reading[lock] as number) - 1);
      this.add(lock, lockField.state, -1);
      return;
    }
    if (this.get(lock, lockField.owner) !== this.me + 1)
      throw new Error(`${name} is dropped by an actor that does not hold it`);
    if (this.get(lock, lockField.depth) > 0) {
      this.add(lock, lockField.depth, -1);
      return;
    }
    this.memory.set(this.at(lock, lockField.owner), 0);
    this.memory.set(this.at(lock, lockField.state), 0);
  }

  /** Names of the locks that an actor holds, for a person. */
  heldBy(actor: number): string[] {
    return this.memory.lockNames.filter(
      (_, lock) =>
        this.get(lock, lockField.owner) === actor + 1 || (this.get(lock, lockField.readers) & (1 << actor)) !== 0,
    );
  }

  /** Locks that somebody holds. */
  held(): string[] {
    return this.memory.lockNames.filter((_, lock) => this.get(lock, lockField.state) !== 0);
  }
}
