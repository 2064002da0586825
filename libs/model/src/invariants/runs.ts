// Mappings as maximal runs: (from, to, pages, rights), neighbours joined. Two table trees translate alike exactly when their
// runs are equal, however their leaves are cut. Added in ascending order.

export interface Run {
  readonly from: number;
  readonly to: number;
  readonly pages: number;
  readonly rights: number;
}

const FIELDS = 4;

export class Runs {
  private readonly cells: number[] = [];

  get length(): number {
    return this.cells.length / FIELDS;
  }

  add(from: number, to: number, pages: number, rights: number): void {
    const { cells } = this;
    const last = cells.length - FIELDS;
    if (last >= 0) {
      const size = cells[last + 2] as number;
      const joins = cells[last] === from - size && cells[last + 1] === to - size && cells[last + 3] === rights;
      if (joins) {
        cells[last + 2] = size + pages;
        return;
      }
    }
    cells.push(from, to, pages, rights);
  }

  at(index: number): Run | undefined {
    const { cells } = this;
    const i = index * FIELDS;
    if (i >= cells.length) return undefined;
    // Four cells were pushed for each run.
    return {
      from: cells[i] as number,
      to: cells[i + 1] as number,
      pages: cells[i + 2] as number,
      rights: cells[i + 3] as number,
    };
  }

  /** The run that has `from` in it, or null. */
  covering(from: number): Run | null {
    let [low, high] = [0, this.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.cells[middle * FIELDS] as number) <= from) low = middle + 1;
      else high = middle;
    }
    const run = this.at(low - 1);
    return run !== undefined && from < run.from + run.pages ? run : null;
  }

  *[Symbol.iterator](): Generator<Run> {
    for (let i = 0; i < this.length; i++) yield this.at(i) as Run;
  }

  /** Index of the first run in which the two differ, or -1. */
  firstDifference(other: Runs): number {
    const n = Math.max(this.cells.length, other.cells.length);
    for (let i = 0; i < n; i++) if (this.cells[i] !== other.cells[i]) return Math.floor(i / FIELDS);
    return -1;
  }
}

/** First pair of runs that share a `from`, or null. Both ascending. */
export function firstOverlap(a: Runs, b: Runs): { a: Run; b: Run } | null {
  let i = 0;
  let j = 0;
  for (;;) {
    const left = a.at(i);
    const right = b.at(j);
    if (!left || !right) return null;
    if (left.from + left.pages <= right.from) i++;
    else if (right.from + right.pages <= left.from) j++;
    else return { a: left, b: right };
  }
}
