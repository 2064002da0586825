// Figures over time for the charts: a few columns of numbers, the newest last, of a fixed length in time.

export class Series {
  readonly names: readonly string[];
  private readonly seconds: number;
  private xs: number[] = [];
  private readonly ys: number[][];

  constructor(names: readonly string[], seconds: number) {
    this.names = names;
    this.seconds = seconds;
    this.ys = names.map(() => []);
  }

  /** `x` in seconds, growing. */
  push(x: number, values: readonly number[]): void {
    this.xs.push(x);
    for (const [i, column] of this.ys.entries()) column.push(values[i] ?? 0);
    const old = this.xs.findIndex((at) => at > x - this.seconds);
    if (old <= 64) return; // cut rarely: each cut copies
    this.xs = this.xs.slice(old);
    for (const [i, column] of this.ys.entries()) this.ys[i] = column.slice(old);
  }

  get data(): [number[], ...number[][]] {
    return [this.xs, ...this.ys];
  }
}
