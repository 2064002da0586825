// Remembers what became of a vCPU's jobs, so that a job delivered twice has one effect: a finished one is answered from here,
// one in flight is waited for, one too old to be known is refused. It knows sequence numbers and outcomes, not what they mean.
//
// Everything above `floor` that was ever begun is remembered; so a number above it that is not here was never begun, even if
// it comes late. Of an outcome that was too large to keep, it remembers that there was one: such a job is refused as too old.
// The record lives with the effect: both die with the hypervisor, whose next start is a new epoch.

import { strict as assert } from 'node:assert';
import { type Kept, OUTCOMES_DOMAIN_MAX, OUTCOMES_VCPU_MAX, OutcomeShelf } from './domain-budget.ts';

export const LEDGER_WINDOW = 64;

export type LedgerState = 'new' | 'in flight' | 'finished' | 'too old';

export interface LedgerLimits<T> {
  readonly window?: number;
  /** Bytes that an outcome takes; by default nothing. */
  readonly bytesOf?: (outcome: T) => number;
  /** What all ledgers of the domain remember. */
  readonly domain?: OutcomeShelf;
}

interface Entry<T> {
  /** null: it was too large to keep. */
  outcome: Promise<T> | null;
  finished: boolean;
  kept: Kept | null;
}

export class VcpuLedger<T> {
  readonly #window: number;
  readonly #bytesOf: (outcome: T) => number;
  readonly #own = new OutcomeShelf(OUTCOMES_VCPU_MAX);
  readonly #domain: OutcomeShelf;
  readonly #entries = new Map<number, Entry<T>>();
  #highest = 0;

  constructor({ window = LEDGER_WINDOW, bytesOf = () => 0, domain }: LedgerLimits<T> = {}) {
    assert(window >= 1);
    this.#window = window;
    this.#bytesOf = bytesOf;
    this.#domain = domain ?? new OutcomeShelf(OUTCOMES_DOMAIN_MAX);
  }

  state(seq: number): LedgerState {
    const entry = this.#entries.get(seq);
    if (!entry) return seq <= this.#highest - this.#window ? 'too old' : 'new';
    if (!entry.finished) return 'in flight';
    return entry.outcome === null ? 'too old' : 'finished';
  }

  /** Runs `effect` if `seq` is new; answers what it became in any case, or null if that is forgotten. */
  run(seq: number, effect: () => Promise<T>): Promise<T> | null {
    switch (this.state(seq)) {
      case 'too old':
        return null;
      case 'new':
        return this.#begin(seq, effect);
      default:
        return this.#entries.get(seq)?.outcome ?? null;
    }
  }

  /** Nothing of it counts any more: its vCPU is gone. */
  close(): void {
    for (const { kept } of this.#entries.values()) kept?.forget();
  }

  #begin(seq: number, effect: () => Promise<T>): Promise<T> {
    const outcome = effect();
    const entry: Entry<T> = { outcome, finished: false, kept: null };
    outcome.then(
      (value) => this.#finish(entry, this.#bytesOf(value)),
      () => this.#finish(entry, 0),
    );
    this.#entries.set(seq, entry);
    if (seq > this.#highest) this.#highest = seq;
    this.#forgetOld();
    return outcome;
  }

  #finish(entry: Entry<T>, bytes: number): void {
    entry.finished = true;
    if (bytes > 0) this.#keep(entry, bytes);
    this.#forgetOld();
  }

  #keep(entry: Entry<T>, bytes: number): void {
    const kept: Kept = {
      bytes,
      forget: () => {
        entry.outcome = null;
        entry.kept = null;
        this.#own.drop(kept);
        this.#domain.drop(kept);
      },
    };
    entry.kept = kept;
    this.#own.add(kept, true);
    this.#domain.add(kept, false);
  }

  /** Drops what fell out of the window; what is in flight stays until it is finished. */
  #forgetOld(): void {
    const floor = this.#highest - this.#window;
    for (const [seq, entry] of this.#entries) {
      if (seq > floor || !entry.finished) continue;
      entry.kept?.forget();
      this.#entries.delete(seq);
    }
  }
}
