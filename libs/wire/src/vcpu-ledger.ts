// Remembers what became of a vCPU's jobs, so that a job delivered twice has one effect: a finished one is answered from here,
// one in flight is waited for, one too old to be known is refused. It knows sequence numbers and outcomes, not what they mean.
//
// Everything above `floor` that was ever begun is remembered; so a number above it that is not here was never begun, even if
// it comes late. The record lives with the effect: both die with the hypervisor, whose next start is a new epoch.

import { strict as assert } from 'node:assert';

export const LEDGER_WINDOW = 64;

export type LedgerState = 'new' | 'in flight' | 'finished' | 'too old';

export class VcpuLedger<T> {
  readonly #window: number;
  readonly #outcomes = new Map<number, { outcome: Promise<T>; finished: boolean }>();
  #highest = 0;

  constructor(window: number = LEDGER_WINDOW) {
    assert(window >= 1);
    this.#window = window;
  }

  state(seq: number): LedgerState {
    const entry = this.#outcomes.get(seq);
    if (entry) return entry.finished ? 'finished' : 'in flight';
    return seq <= this.#highest - this.#window ? 'too old' : 'new';
  }

  /** Runs `effect` if `seq` is new; answers what it became in any case, or null if that is forgotten. */
  run(seq: number, effect: () => Promise<T>): Promise<T> | null {
    switch (this.state(seq)) {
      case 'too old':
        return null;
      case 'new':
        return this.#begin(seq, effect);
      default:
        return this.#outcomes.get(seq)?.outcome ?? null;
    }
  }

  #begin(seq: number, effect: () => Promise<T>): Promise<T> {
    const entry = { outcome: effect(), finished: false };
    const finish = (): void => {
      entry.finished = true;
      this.#forget();
    };
    entry.outcome.then(finish, finish);
    this.#outcomes.set(seq, entry);
    if (seq > this.#highest) this.#highest = seq;
    this.#forget();
    return entry.outcome;
  }

  /** Drops what fell out of the window; what is in flight stays until it is finished. */
  #forget(): void {
    const floor = this.#highest - this.#window;
    for (const [seq, entry] of this.#outcomes) {
      if (seq <= floor && entry.finished) this.#outcomes.delete(seq);
    }
  }
}
