// A mutual-exclusion lock over Atomics: a short spin, then a futex-like wait. Optionally recursive (Xen's rspinlock).
// Not a ticket lock: those convoy once threads outnumber cores (DESIGN 2).
import { type LockTable, lockWord } from './lock-table.ts';
import { nowNs, step, stepKind } from './step.ts';

const SPINS = 200;

export class Mutex {
  private readonly table: LockTable;
  private readonly lockId: number;
  private readonly recursive: boolean;
  private readonly base: number;
  private readonly level: number;
  private savedLevel = 0;
  private since = 0;

  constructor(table: LockTable, lockId: number, recursive = false) {
    this.table = table;
    this.lockId = lockId;
    this.recursive = recursive;
    this.base = table.base(lockId);
    this.level = table.levelOf(lockId);
  }

  get held(): boolean {
    return this.table.words[this.base + lockWord.owner] === this.table.cpu + 1;
  }

  lock(): void {
    const { table, base } = this;
    step(stepKind.lock, this.lockId);
    if (this.held) {
      if (!this.recursive)
        table.panicCell.panic(`mm lock already held: ${table.nameOf(this.lockId)} by cpu${table.cpu}`);
      table.words[base + lockWord.depth] = (table.words[base + lockWord.depth] as number) + 1;
      return;
    }
    table.checkLevel(this.lockId, this.level);
    if (Atomics.compareExchange(table.words, base, 0, 1) !== 0) this.lockSlow();
    this.taken();
  }

  /** Takes the lock if it is free; no level check, since a trylock cannot deadlock. */
  tryLock(): boolean {
    step(stepKind.tryLock, this.lockId);
    if (this.held || Atomics.compareExchange(this.table.words, this.base, 0, 1) !== 0) return false;
    this.taken();
    return true;
  }

  private taken(): void {
    const { table } = this;
    table.words[this.base + lockWord.owner] = table.cpu + 1;
    table.push(this.lockId);
    this.savedLevel = table.level;
    if (this.level > table.level) table.level = this.level;
    this.since = table.acquired(this.lockId);
  }

  private lockSlow(): void {
    const { table, base } = this;
    const since = nowNs();
    table.waiting(this.lockId);
    for (let i = 0; i < SPINS; i++) {
      if (Atomics.load(table.words, base) === 0 && Atomics.compareExchange(table.words, base, 0, 1) === 0) {
        table.blocked(this.lockId, since);
        return;
      }
    }
    table.waitUntil(
      table.words,
      base,
      () => table.describeLock(this.lockId),
      () => Atomics.exchange(table.words, base, 2) === 0,
    );
    table.blocked(this.lockId, since);
  }

  unlock(): void {
    const { table, base } = this;
    step(stepKind.unlock, this.lockId);
    if (!this.held)
      table.panicCell.panic(`cpu${table.cpu} unlocks ${table.nameOf(this.lockId)} which it does not hold`);
    const depth = table.words[base + lockWord.depth] as number;
    if (depth > 0) {
      table.words[base + lockWord.depth] = depth - 1;
      return;
    }
    table.releasing(this.lockId, this.since);
    table.pop(this.lockId);
    table.level = this.savedLevel;
    table.words[base + lockWord.owner] = 0;
    if (Atomics.exchange(table.words, base, 0) === 2) Atomics.notify(table.words, base, 1);
  }

  /** Waits until whoever held the lock at the call has let go (Xen's spin_barrier). */
  barrier(): void {
    this.lock();
    this.unlock();
  }
}
