// A fair reader/writer lock with a recursive writer: Xen's p2m lock (a per-CPU rwlock). New readers stand back while a
// writer waits; a leaving writer lets in the readers that waited with it, once. So neither side can starve the other.
import { type LockTable, lockWord } from './lock-table.ts';
import { nowNs, step, stepKind } from './step.ts';

const SPINS = 200;

export class RwLock {
  private readonly table: LockTable;
  private readonly lockId: number;
  private readonly base: number;
  private readonly level: number;
  private savedLevel = 0;
  private since = 0;
  /** Read locks of this thread; a reader may recurse while it already reads. */
  private reading = 0;

  constructor(table: LockTable, lockId: number) {
    this.table = table;
    this.lockId = lockId;
    this.base = table.base(lockId);
    table.declareFair(lockId);
    this.level = table.levelOf(lockId);
  }

  get writeHeld(): boolean {
    return this.table.words[this.base + lockWord.owner] === this.table.cpu + 1;
  }

  /** Depth of this thread's write recursion; 1 = outermost. */
  get writeDepth(): number {
    return this.writeHeld ? (this.table.words[this.base + lockWord.depth] as number) + 1 : 0;
  }

  writeLock(): void {
    const { table, base } = this;
    step(stepKind.lock, this.lockId);
    if (this.writeHeld) {
      table.words[base + lockWord.depth] = (table.words[base + lockWord.depth] as number) + 1;
      return;
    }
    if (this.reading > 0)
      table.panicCell.panic(`cpu${table.cpu} wants to write ${table.nameOf(this.lockId)} while reading it`);
    table.checkLevel(this.lockId, this.level);
    if (!this.tryWrite()) this.writeSlow();
    table.words[base + lockWord.owner] = table.cpu + 1;
    table.push(this.lockId);
    this.savedLevel = table.level;
    if (this.level > table.level) table.level = this.level;
    this.since = table.acquired(this.lockId);
  }

  writeUnlock(): void {
    const { table, base } = this;
    step(stepKind.unlock, this.lockId);
    if (!this.writeHeld)
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
    // The readers that waited behind this writer go before the next writer.
    Atomics.store(table.words, base + lockWord.readerTurn, Atomics.load(table.words, base + lockWord.readersWaiting));
    Atomics.store(table.words, base, 0);
    this.wake();
  }

  /** Checks the level but does not raise it, as Xen's read lock. */
  readLock(): void {
    const { table, base } = this;
    step(stepKind.lock, this.lockId);
    if (this.writeHeld || this.reading > 0) {
      // Under our own write lock a read is a recursion of it; under our own read lock it must not queue behind a writer.
      if (this.writeHeld) table.words[base + lockWord.depth] = (table.words[base + lockWord.depth] as number) + 1;
      else this.reading++;
      return;
    }
    table.checkLevel(this.lockId, this.level);
    if (!this.tryRead(false)) this.readSlow();
    this.reading = 1;
    table.push(this.lockId);
    table.acquired(this.lockId);
  }

  /** Reads if nobody writes or waits to; no level check, since a trylock cannot deadlock. */
  tryReadLock(): boolean {
    step(stepKind.tryLock, this.lockId);
    if (this.writeHeld || this.reading > 0 || !this.tryRead(false)) return false;
    this.reading = 1;
    this.table.push(this.lockId);
    this.table.acquired(this.lockId);
    return true;
  }

  readUnlock(): void {
    const { table, base } = this;
    step(stepKind.unlock, this.lockId);
    if (this.writeHeld) {
      table.words[base + lockWord.depth] = (table.words[base + lockWord.depth] as number) - 1;
      return;
    }
    if (--this.reading > 0) return;
    table.pop(this.lockId);
    if (Atomics.sub(table.words, base, 1) === 1) this.wake();
  }

  private tryWrite(): boolean {
    const { words } = this.table;
    if (Atomics.load(words, this.base + lockWord.readerTurn) > 0) return false;
    return Atomics.compareExchange(words, this.base, 0, -1) === 0;
  }

  private tryRead(waited: boolean): boolean {
    const { words } = this.table;
    const { base } = this;
    const state = Atomics.load(words, base);
    if (state < 0) return false;
    const turn = Atomics.load(words, base + lockWord.readerTurn);
    if (Atomics.load(words, base + lockWord.writersWaiting) > 0 && !(waited && turn > 0)) return false;
    return Atomics.compareExchange(words, base, state, state + 1) === state;
  }

  private writeSlow(): void {
    const { table, base } = this;
    const since = nowNs();
    table.waiting(this.lockId);
    Atomics.add(table.words, base + lockWord.writersWaiting, 1);
    if (!this.spin(() => this.tryWrite())) {
      table.waitUntil(
        table.words,
        base + lockWord.sequence,
        () => table.describeLock(this.lockId),
        () => this.tryWrite(),
      );
    }
    Atomics.sub(table.words, base + lockWord.writersWaiting, 1);
    table.blocked(this.lockId, since);
  }

  private readSlow(): void {
    const { table, base } = this;
    const since = nowNs();
    table.waiting(this.lockId);
    Atomics.add(table.words, base + lockWord.readersWaiting, 1);
    if (!this.spin(() => this.tryRead(true))) {
      table.waitUntil(
        table.words,
        base + lockWord.sequence,
        () => table.describeLock(this.lockId),
        () => this.tryRead(true),
      );
    }
    Atomics.sub(table.words, base + lockWord.readersWaiting, 1);
    this.takeTurn();
    table.blocked(this.lockId, since);
  }

  /** One waiting reader is in: one turn less, never below zero. The last one may be what a writer waits for. */
  private takeTurn(): void {
    const { words } = this.table;
    const index = this.base + lockWord.readerTurn;
    for (;;) {
      const turn = Atomics.load(words, index);
      if (turn <= 0) return;
      if (Atomics.compareExchange(words, index, turn, turn - 1) !== turn) continue;
      if (turn === 1) this.wake();
      return;
    }
  }

  private spin(attempt: () => boolean): boolean {
    for (let i = 0; i < SPINS; i++) if (attempt()) return true;
    return false;
  }

  private wake(): void {
    const { words } = this.table;
    Atomics.add(words, this.base + lockWord.sequence, 1);
    Atomics.notify(words, this.base + lockWord.sequence);
  }
}
