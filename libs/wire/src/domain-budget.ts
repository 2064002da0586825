// What one domain may take of the hypervisor's heap: for outcomes that its vCPUs' ledgers remember, and for envelopes that are
// being worked on. A guest with many vCPUs and large answers hurts itself only: its outcomes are forgotten early, its large
// envelopes wait for each other. It knows sizes, not what they are sizes of.

/** Bytes of outcomes that one vCPU's ledger, and all of a domain together, may keep. The newest one of a vCPU may exceed the first. */
export const OUTCOMES_VCPU_MAX = 8 * 2 ** 20;
export const OUTCOMES_DOMAIN_MAX = 32 * 2 ** 20;
/** Bytes that a domain's envelopes may take while they are read, run and answered. */
export const IN_FLIGHT_MAX = 64 * 2 ** 20;

/** A finished outcome. */
export interface Kept {
  readonly bytes: number;
  forget(): void;
}

/** Outcomes in the order in which they were finished; the oldest are forgotten when there are too many bytes of them. */
export class OutcomeShelf {
  readonly #max: number;
  readonly #kept = new Set<Kept>();
  #bytes = 0;

  constructor(max: number) {
    this.#max = max;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** The new one stays, whatever its size, if `keepNewest`; what goes hears `forget`, which drops it from here. */
  add(outcome: Kept, keepNewest: boolean): void {
    this.#kept.add(outcome);
    this.#bytes += outcome.bytes;
    for (const oldest of this.#kept) {
      if (this.#bytes <= this.#max || (keepNewest && oldest === outcome)) return;
      oldest.forget();
    }
  }

  drop(outcome: Kept): void {
    if (this.#kept.delete(outcome)) this.#bytes -= outcome.bytes;
  }
}

/** A share of the bytes in flight; given back once. */
export interface Share {
  readonly bytes: number;
}

interface Waiting {
  readonly bytes: number;
  readonly go: (share: Share) => void;
}

/** Bytes in flight: who wants more than is left waits, in order. One that wants more than all gets all. */
export class InFlight {
  readonly #max: number;
  #used = 0;
  readonly #waiting: Waiting[] = [];

  constructor(max: number = IN_FLIGHT_MAX) {
    this.#max = max;
  }

  get bytes(): number {
    return this.#used;
  }

  /** At once, or null if others are in the way. */
  tryTake(wanted: number): Share | null {
    const bytes = Math.min(wanted, this.#max);
    if (this.#waiting.length > 0 || this.#used + bytes > this.#max) return null;
    this.#used += bytes;
    return { bytes };
  }

  take(wanted: number): Promise<Share> {
    const share = this.tryTake(wanted);
    if (share) return Promise.resolve(share);
    return new Promise((go) => this.#waiting.push({ bytes: Math.min(wanted, this.#max), go }));
  }

  give(share: Share): void {
    this.#used -= share.bytes;
    for (let next = this.#waiting[0]; next && this.#used + next.bytes <= this.#max; next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#used += next.bytes;
      next.go({ bytes: next.bytes });
    }
  }
}

/** One for all vCPUs of a domain. */
export class DomainBudget {
  readonly outcomes = new OutcomeShelf(OUTCOMES_DOMAIN_MAX);
  readonly inFlight = new InFlight();
}
