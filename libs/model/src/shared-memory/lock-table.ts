// Storage of all locks, and what is common to them: the held-lock stacks of all CPUs (so that a panic can name the holder's
// locks), the level check, the watchdog and the sampled profile. How a lock is taken is in mutex.ts and rwlock.ts.

import { type LockLog, lockEvent } from './lock-log.ts';
import { inXenLockProfile, type LockName, lockLevel } from './lock-order.ts';
import { PanicCell } from './panic.ts';
import { nowNs, park } from './step.ts';

const LOCK_WORDS = 12;
const LOCK_DOUBLES = 2;
const HELD_WORDS = 32;

/** Words of one lock. `state`: mutex 0 free / 1 held / 2 held with waiters; rwlock 0 free / n readers / -1 writer. */
export const lockWord = {
  state: 0,
  owner: 1,
  depth: 2,
  writersWaiting: 3,
  readersWaiting: 4,
  readerTurn: 5,
  sequence: 6,
  lockCount: 7,
  blockCount: 8,
} as const;

/** The lock of a dying, waiting thread is reported after this much time in which its process really ran. */
const WATCHDOG_MS = 10_000;
const SLICE_MS = 100;
/** One in this many acquisitions is timed for the profile; waits are always timed (they are slow anyway). */
const SAMPLE = 64;

export interface LockRow {
  readonly name: LockName;
  /** As declared: a domain's slot, an IOMMU unit, a device's index, or -1 for a global lock. */
  readonly scope: number;
  readonly lockCnt: number;
  readonly blockCnt: number;
  readonly holdNs: number;
  readonly waitNs: number;
  readonly inXen: boolean;
}

export interface LockDeclaration {
  readonly name: LockName;
  readonly scope: number;
  /** +64 for the control domain's mm locks. */
  readonly bias: number;
}

export class LockTable {
  static bytes(locks: number, cpus: number): number {
    return locks * (LOCK_DOUBLES * 8 + LOCK_WORDS * 4) + 8 + (cpus + 1) * HELD_WORDS * 4;
  }

  readonly words: Int32Array<SharedArrayBuffer>;
  private readonly doubles: Float64Array<SharedArrayBuffer>;
  private readonly held: Int32Array<SharedArrayBuffer>;
  private readonly stalls: Int32Array<SharedArrayBuffer>;
  private acquisitions = 0;
  /** Current level of this thread (Xen's per-CPU mm lock level). */
  level = 0;
  readonly cpu: number;
  /** How long a wait sleeps before it looks again, unless it is woken. */
  protected readonly sliceMs: number = SLICE_MS;
  readonly panicCell: PanicCell;
  private readonly declarations: readonly LockDeclaration[];
  /** What this CPU does, for those who look; null: nobody can. Set when the thread attaches. */
  log: LockLog | null = null;
  /** Fair reader/writer locks; all others are mutexes. */
  private readonly fair = new Set<number>();

  constructor(buffer: SharedArrayBuffer, declarations: readonly LockDeclaration[], cpu: number, panicCell: PanicCell) {
    const n = declarations.length;
    this.cpu = cpu;
    this.panicCell = panicCell;
    this.declarations = declarations;
    this.doubles = new Float64Array(buffer, 0, n * LOCK_DOUBLES);
    this.stalls = new Int32Array(buffer, n * LOCK_DOUBLES * 8, 2);
    this.words = new Int32Array(buffer, n * LOCK_DOUBLES * 8 + 8, n * LOCK_WORDS);
    this.held = new Int32Array(buffer, n * (LOCK_DOUBLES * 8 + LOCK_WORDS * 4) + 8);
  }

  base(lock: number): number {
    return lock * LOCK_WORDS;
  }

  levelOf(lock: number): number {
    const { name, bias } = this.declaration(lock);
    return lockLevel[name] + bias;
  }

  nameOf(lock: number): string {
    const { name, scope } = this.declaration(lock);
    return scope < 0 ? name : `${name}(${name.startsWith('iommu') && name !== 'iommuMapping' ? 'iommu' : 'd'}${scope})`;
  }

  private declaration(lock: number): LockDeclaration {
    const declaration = this.declarations[lock];
    if (!declaration) throw new Error(`no lock ${lock}`);
    return declaration;
  }

  /** As Xen's check_lock_level: a lower level than the current one is a BUG. */
  checkLevel(lock: number, level: number): void {
    if (this.level > level) {
      this.panicCell.panic(
        `mm locking order violation: ${this.level} > ${level}\n` +
          `cpu${this.cpu} wants ${this.nameOf(lock)} while holding ${this.describeHeld(this.cpu)}`,
      );
    }
  }

  push(lock: number): void {
    const base = this.cpu * HELD_WORDS;
    const depth = this.held[base] as number;
    if (depth + 1 >= HELD_WORDS)
      this.panicCell.panic(`cpu${this.cpu} holds too many locks: ${this.describeHeld(this.cpu)}`);
    this.held[base + depth + 1] = lock;
    this.held[base] = depth + 1;
  }

  pop(lock: number): void {
    if (this.log !== null) this.log.note(lockEvent.freed, lock);
    const base = this.cpu * HELD_WORDS;
    const depth = this.held[base] as number;
    for (let i = depth; i >= 1; i--) {
      if (this.held[base + i] !== lock) continue;
      for (let j = i; j < depth; j++) this.held[base + j] = this.held[base + j + 1] as number;
      this.held[base] = depth - 1;
      return;
    }
    this.panicCell.panic(`cpu${this.cpu} unlocks ${this.nameOf(lock)} which it does not hold`);
  }

  /** Called by the lock itself. */
  declareFair(lock: number): void {
    this.fair.add(lock);
  }

  /**
   * Would lock() of that mutex by `cpu` wait now? Of a fair reader/writer lock false: to wait for it is to queue, and that
   * already changes what others may do. For a scheduler that must know before the step.
   */
  wouldWait(lock: number, cpu: number): boolean {
    const base = this.base(lock);
    return !this.fair.has(lock) && this.words[base] !== 0 && this.words[base + lockWord.owner] !== cpu + 1;
  }

  /** The lock that one of its words belongs to, or -1: the word is no lock's. */
  lockOfWord(words: Int32Array<SharedArrayBuffer>, index: number): number {
    return words.buffer === this.words.buffer && words.byteOffset === this.words.byteOffset
      ? Math.floor(index / LOCK_WORDS)
      : -1;
  }

  /** All words of a lock, its state first. */
  wordsOf(lock: number): Int32Array<SharedArrayBuffer> {
    return this.words.subarray(this.base(lock), this.base(lock) + LOCK_WORDS);
  }

  /** CPUs that hold it; several for readers. */
  holders(lock: number): number[] {
    const found: number[] = [];
    for (let cpu = 0; (cpu + 1) * HELD_WORDS <= this.held.length; cpu++) {
      const base = cpu * HELD_WORDS;
      if (this.held.subarray(base + 1, base + 1 + this.heldCount(cpu)).includes(lock)) found.push(cpu);
    }
    return found;
  }

  heldCount(cpu: number): number {
    return this.held[cpu * HELD_WORDS] as number;
  }

  describeHeld(cpu: number): string {
    const base = cpu * HELD_WORDS;
    const names: string[] = [];
    for (let i = 1; i <= (this.held[base] as number); i++) names.push(this.nameOf(this.held[base + i] as number));
    return `{${names.join(', ')}}`;
  }

  /** An injected stall of `ms` is about to begin somewhere: no watchdog may count it. */
  extendWatchdog(ms: number): void {
    Atomics.add(this.stalls, 0, Math.ceil(ms));
  }

  /**
   * One blocking wait of the calling CPU, with watchdog: parks in slices until `ready()`, and panics when about ten seconds
   * in which this process really ran were not enough. A stopped process wakes to one late slice, so it counts one.
   */
  waitUntil(words: Int32Array<SharedArrayBuffer>, index: number, what: () => string, ready: () => boolean): void {
    const stallsAtStart = Atomics.load(this.stalls, 0);
    let waited = 0;
    for (;;) {
      const seen = Atomics.load(words, index);
      if (ready()) return;
      this.panicCell.check();
      const before = nowNs();
      park(words, index, seen, this.sliceMs);
      // Woken early is no time; without a clock (explore) a slice is counted only through the scheduler's own limit.
      const elapsed = nowNs() - before;
      if (elapsed >= this.sliceMs * 0.9e6) waited += this.sliceMs;
      if (waited > WATCHDOG_MS + Atomics.load(this.stalls, 0) - stallsAtStart) {
        this.panicCell.panic(
          `watchdog: cpu${this.cpu} waited ${waited} ms for ${what()}; it holds ${this.describeHeld(this.cpu)}`,
        );
      }
    }
  }

  /** What a watchdog says of a lock: its owner and the owner's locks. */
  describeLock(lock: number): string {
    const owner = (this.words[this.base(lock) + lockWord.owner] as number) - 1;
    if (owner < 0) return `${this.nameOf(lock)} (held by readers)`;
    return `${this.nameOf(lock)} held by cpu${owner}, which holds ${this.describeHeld(owner)}`;
  }

  /** Start of a hold: 0 when this one is not sampled. Call with the lock held. */
  acquired(lock: number): number {
    if (this.log !== null) this.log.note(lockEvent.taken, lock);
    const base = this.base(lock);
    this.words[base + lockWord.lockCount] = (this.words[base + lockWord.lockCount] as number) + 1;
    return ++this.acquisitions % SAMPLE === 0 ? nowNs() : 0;
  }

  /** End of a sampled hold. Call with the lock still held. */
  releasing(lock: number, since: number): void {
    if (since !== 0)
      this.doubles[lock * LOCK_DOUBLES] = (this.doubles[lock * LOCK_DOUBLES] as number) + (nowNs() - since) * SAMPLE;
  }

  /** The calling CPU does not get it at once. */
  waiting(lock: number): void {
    if (this.log !== null) this.log.note(lockEvent.wait, lock);
  }

  /** Reader/writer locks may race here between readers: a profile, not an account. */
  blocked(lock: number, since: number): void {
    Atomics.add(this.words, this.base(lock) + lockWord.blockCount, 1);
    this.doubles[lock * LOCK_DOUBLES + 1] = (this.doubles[lock * LOCK_DOUBLES + 1] as number) + (nowNs() - since);
  }

  /** The counts of a lock begin again: it is another one's from now on. */
  resetProfile(lock: number): void {
    this.words[this.base(lock) + lockWord.lockCount] = 0;
    this.words[this.base(lock) + lockWord.blockCount] = 0;
    this.doubles.fill(0, lock * LOCK_DOUBLES, (lock + 1) * LOCK_DOUBLES);
  }

  profile(): LockRow[] {
    return this.declarations.map((d, lock) => ({
      name: d.name,
      scope: d.scope,
      lockCnt: this.words[this.base(lock) + lockWord.lockCount] as number,
      blockCnt: this.words[this.base(lock) + lockWord.blockCount] as number,
      holdNs: this.doubles[lock * LOCK_DOUBLES] as number,
      waitNs: this.doubles[lock * LOCK_DOUBLES + 1] as number,
      inXen: inXenLockProfile[d.name],
    }));
  }
}
