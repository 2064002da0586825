// What the threads of a contention experiment measure, in shared memory: per thread and per operation under way a set of histograms
// and counts. Each thread writes its own; the main thread adds them up when all stand still.
import { Histogram } from '#report/histogram';

/** The operation that the experiment repeats while the others work; `none`: they work alone. */
export const operations = ['map', 'translate', 'revoke', 'none'] as const;
export type OperationName = (typeof operations)[number];

/**
 * `wall` in nanoseconds of this machine's clock; `steps`: announced steps of the model done under the lock; `virtual`: nanoseconds of
 * virtual time (libs/explore/src/virtual-time.ts).
 */
export const measures = ['wall', 'steps', 'virtual'] as const;
export type Measure = (typeof measures)[number];
const kinds = ['hold', 'wait'] as const;
export type Kind = (typeof kinds)[number];

const SETS = kinds.length * measures.length;
/** Besides the histograms: operations completed, nanoseconds spent on them, pages of them. */
const CELLS = { ops: 0, ns: 1, pages: 2 } as const;
const DOUBLES = SETS * Histogram.doubles + 3;

export class Figures {
  static bytes(threads: number): number {
    return threads * operations.length * DOUBLES * 8;
  }

  private readonly cells: Float64Array<SharedArrayBuffer>;
  private readonly sets: Histogram[] = [];

  constructor(buffer: SharedArrayBuffer, thread: number) {
    const size = operations.length * DOUBLES;
    this.cells = new Float64Array(buffer, thread * size * 8, size);
    for (let op = 0; op < operations.length; op++) {
      for (let set = 0; set < SETS; set++) {
        const at = op * DOUBLES + set * Histogram.doubles;
        this.sets.push(new Histogram(this.cells.subarray(at, at + Histogram.doubles)));
      }
    }
  }

  histogram(op: number, kind: Kind, measure: Measure): Histogram {
    const set = kinds.indexOf(kind) * measures.length + measures.indexOf(measure);
    return this.sets[op * SETS + set] as Histogram; // one for each of them
  }

  private at(op: number, cell: keyof typeof CELLS): number {
    return op * DOUBLES + SETS * Histogram.doubles + CELLS[cell];
  }

  count(op: number, cell: keyof typeof CELLS, by = 1): void {
    const at = this.at(op, cell);
    this.cells[at] = (this.cells[at] as number) + by;
  }

  read(op: number, cell: keyof typeof CELLS): number {
    return this.cells[this.at(op, cell)] as number;
  }

  clear(): void {
    this.cells.fill(0);
  }
}
