// How a frontend and a backend tell each other where they are: one word in a page that the frontend has granted for good, as the
// shared ring of a split driver. It holds the number of the use and its state, and only the one whose turn it is writes.
import type { Hypercalls } from '../../hypercall/calls.ts';

export const RING_REF = 8;
const FIRST_DATA_REF = 9;
/** Sets of pages that the frontend grants in turn: while one is not free yet, another may be used. */
export const SETS = 8;

export const ringState = { none: 0, granted: 1, unmapped: 2 } as const;
type RingState = (typeof ringState)[keyof typeof ringState];
const STATES = 4;

interface RingWord {
  readonly use: number;
  readonly state: RingState;
}

/** First reference of the set that a use takes. */
export const firstRef = (use: number, pages: number): number => FIRST_DATA_REF + (use % SETS) * pages;

export class Ring {
  private readonly port: Hypercalls;
  private readonly gfn: number;

  constructor(port: Hypercalls, gfn: number) {
    this.port = port;
    this.gfn = gfn;
  }

  read(): RingWord {
    const { tags } = this.port.call({ op: 'load', frames: { start: this.gfn, count: 1 } });
    const word = Math.max(0, tags?.[0] ?? 0);
    return { use: Math.floor(word / STATES), state: (word % STATES) as RingState }; // written by write()
  }

  write({ use, state }: RingWord): void {
    this.port.call({ op: 'store', frames: { start: this.gfn, count: 1 }, tag: use * STATES + state });
  }
}
