// The table of interval subscriptions of an address space. The notifiers' lock protects all of it but each subscription's own
// sequence, which its driver's callback writes under the driver's lock.
import { SEQUENCE_WORDS, SequenceCell } from './sequence.ts';

/** `insertPending`, `removePending`: an invalidation runs, and takes effect at its end. */
export const subscriptionState = { free: 0, inserted: 1, insertPending: 2, removePending: 3 } as const;
type SubscriptionState = (typeof subscriptionState)[keyof typeof subscriptionState];

const STATE = 0;
const DRIVER = 1;
const START = 2;
const END = 3;
const SEQUENCE = 4;
const SUB_WORDS = SEQUENCE + SEQUENCE_WORDS;
const SUBSCRIPTIONS = 64;

export const subscriptionBytes = (): number => SUBSCRIPTIONS * SUB_WORDS * 4;

export class SubscriptionTable {
  private readonly words: Int32Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer, byteOffset: number) {
    this.words = new Int32Array(buffer, byteOffset, SUBSCRIPTIONS * SUB_WORDS);
  }

  private read(sub: number, word: number): number {
    return Atomics.load(this.words, sub * SUB_WORDS + word);
  }

  driver(sub: number): number {
    return this.read(sub, DRIVER);
  }
  state(sub: number): number {
    return this.read(sub, STATE);
  }
  setState(sub: number, state: SubscriptionState): void {
    Atomics.store(this.words, sub * SUB_WORDS + STATE, state);
  }
  sequence(sub: number): SequenceCell {
    return new SequenceCell(this.words, sub * SUB_WORDS + SEQUENCE);
  }

  /** A free place for it, -1 if there is none. Its state is still free. */
  take(driver: number, start: number, end: number): number {
    for (let sub = 0; sub < SUBSCRIPTIONS; sub++) {
      if (this.state(sub) !== subscriptionState.free) continue;
      this.words[sub * SUB_WORDS + DRIVER] = driver;
      this.words[sub * SUB_WORDS + START] = start;
      this.words[sub * SUB_WORDS + END] = end;
      return sub;
    }
    return -1;
  }

  /** Those whose callback must be called for [start, end), by number; one that is being removed still is. */
  overlapping(start: number, end: number): number[] {
    const found: number[] = [];
    for (let sub = 0; sub < SUBSCRIPTIONS; sub++) {
      const state = this.state(sub);
      const called = state === subscriptionState.inserted || state === subscriptionState.removePending;
      if (called && this.read(sub, START) < end && this.read(sub, END) > start) found.push(sub);
    }
    return found;
  }

  /** The last invalidation is over: what was put off happens. */
  settle(): void {
    for (let sub = 0; sub < SUBSCRIPTIONS; sub++) {
      if (this.state(sub) === subscriptionState.insertPending) this.setState(sub, subscriptionState.inserted);
      else if (this.state(sub) === subscriptionState.removePending) this.setState(sub, subscriptionState.free);
    }
  }
}
