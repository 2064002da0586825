// DMA transactions under way. Each DMA thread has a sequence word (odd = a transaction is open) and says on which unit it
// is; a synchronous flush returns only when the transactions that were open when it looked have closed. No lock: a DMA
// thread never waits for a pCPU.
import type { LockTable } from '../shared-memory/lock-table.ts';

/** A transaction is short; most waits end within this many looks. */
const SPINS = 400;

export class InFlight {
  /** Words: waiting flushers, then (sequence, unit) per thread. */
  static bytes(threads: number): number {
    return 4 * (2 + threads * 2);
  }

  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly threads: number;

  constructor(buffer: SharedArrayBuffer, at: number, threads: number) {
    this.threads = threads;
    this.words = new Int32Array(buffer, at, 2 + threads * 2);
  }

  open(thread: number, unit: number): void {
    this.words[3 + thread * 2] = unit;
    Atomics.add(this.words, 2 + thread * 2, 1);
  }

  close(thread: number): void {
    const index = 2 + thread * 2;
    Atomics.add(this.words, index, 1);
    if (Atomics.load(this.words, 0) > 0) Atomics.notify(this.words, index);
  }

  isOpen(thread: number): boolean {
    return (Atomics.load(this.words, 2 + thread * 2) & 1) !== 0;
  }

  /** Until every transaction open on `unit` at the call has closed. Answers whether it had to wait. */
  waitForOpen(unit: number, locks: LockTable): boolean {
    let waited = false;
    for (let thread = 0; thread < this.threads; thread++) {
      const index = 2 + thread * 2;
      const sequence = Atomics.load(this.words, index);
      // If the unit read here is already that of the thread's next transaction, the sequence has changed and the wait ends.
      if ((sequence & 1) === 0 || this.words[index + 1] !== unit) continue;
      waited = true;
      this.wait(index, sequence, thread, locks);
    }
    return waited;
  }

  private wait(index: number, sequence: number, thread: number, locks: LockTable): void {
    const { words } = this;
    for (let i = 0; i < SPINS; i++) if (Atomics.load(words, index) !== sequence) return;
    Atomics.add(words, 0, 1);
    locks.waitUntil(
      words,
      index,
      () => `a transaction of DMA thread ${thread} to close`,
      () => Atomics.load(words, index) !== sequence,
    );
    Atomics.sub(words, 0, 1);
  }
}
