// What every bench script prints: one JSON object a line. `hold` is the bound of the README's promise table.

export interface BenchRow {
  /** Row number in the promise table. */
  readonly row: number;
  readonly name: string;
  /** The figure that is held to `hold`: a ratio, a time, a rate or MiB. */
  readonly value: number;
  readonly unit: 'ratio' | 's' | 'MiB' | '1/s' | 'ns';
  readonly hold: number | null;
  /** Is the bound an upper one (speed as cost) or a lower one (throughput kept)? */
  readonly bound: 'at most' | 'at least' | 'reported';
  readonly runs: number;
  /** Smallest and largest of the runs: how noisy the machine was. */
  readonly spread: readonly [number, number];
  /** Measured parts and the yardstick, by name, with unit in the name. */
  readonly detail: Readonly<Record<string, number | string>>;
}

export const printRow = (row: BenchRow): void => {
  process.stdout.write(`${JSON.stringify(row)}\n`);
};

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

export const spreadOf = (values: readonly number[]): [number, number] => [Math.min(...values), Math.max(...values)];
