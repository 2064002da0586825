// A 64-bit sequence number of a kernel in shared memory, as two 32-bit words: a double loses it beyond 2^53, a bigint is slow.
// The high word is stored twice, around the low one, so that a reader without a lock never sees half of a carry. Sequences are
// compared for equality only; there is no "later".

/** Unsigned words. */
export interface Sequence {
  readonly lo: number;
  readonly hi: number;
}

const HI_CHECK = 0;
const LO = 1;
const HI = 2;
export const SEQUENCE_WORDS = 3;

export const sameSequence = (a: Sequence, b: Sequence): boolean => a.lo === b.lo && a.hi === b.hi;
export const isOdd = (s: Sequence): boolean => (s.lo & 1) !== 0;
export const nextSequence = ({ lo, hi }: Sequence): Sequence =>
  lo === 0xffffffff ? { lo: 0, hi: (hi + 1) >>> 0 } : { lo: lo + 1, hi };
export const previousSequence = ({ lo, hi }: Sequence): Sequence =>
  lo === 0 ? { lo: 0xffffffff, hi: (hi - 1) >>> 0 } : { lo: lo - 1, hi };
export const madeOdd = ({ lo, hi }: Sequence): Sequence => ({ lo: (lo | 1) >>> 0, hi });
/** What is left of it after a trip through a signed 32-bit variable: beyond 2^31 another number. */
export const throughInt32 = ({ lo }: Sequence): Sequence => ({ lo, hi: (lo | 0) < 0 ? 0xffffffff : 0 });
export const sequenceText = ({ lo, hi }: Sequence): string =>
  `0x${hi === 0 ? lo.toString(16) : hi.toString(16) + lo.toString(16).padStart(8, '0')}`;

/** One sequence in memory. One writer at a time, by a lock of its owner's. */
export class SequenceCell {
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly at: number;

  constructor(words: Int32Array<SharedArrayBuffer>, at: number) {
    this.words = words;
    this.at = at;
  }

  /** The word to sleep on: it changes with every change. */
  get parkIndex(): number {
    return this.at + LO;
  }

  read(): Sequence {
    for (;;) {
      const hi = Atomics.load(this.words, this.at + HI);
      const lo = Atomics.load(this.words, this.at + LO);
      if (Atomics.load(this.words, this.at + HI_CHECK) === hi) return { lo: lo >>> 0, hi: hi >>> 0 };
    }
  }

  write({ lo, hi }: Sequence): void {
    Atomics.store(this.words, this.at + HI_CHECK, hi | 0);
    Atomics.store(this.words, this.at + LO, lo | 0);
    Atomics.store(this.words, this.at + HI, hi | 0);
  }
}
