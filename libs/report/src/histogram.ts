// A log-linear histogram of non-negative figures (nanoseconds, steps), as HDR histograms are: every power of two is cut into equal
// parts, so that a percentile is known to about three per cent of itself, whatever its size. The cells may be shared memory:
// one thread records, others add up when it has stopped.

/** Parts of one power of two. */
const PARTS = 32;
/** Largest power of two told apart: 2^44 ns are five hours. */
const POWERS = 44;
const BUCKETS = (POWERS - Math.log2(PARTS) + 1) * PARTS;
const COUNT = BUCKETS;
const SUM = BUCKETS + 1;
const MAX = BUCKETS + 2;

function bucketOf(value: number): number {
  if (value < PARTS) return Math.floor(value);
  const power = Math.floor(Math.log2(value));
  const part = Math.floor(value / 2 ** (power - Math.log2(PARTS))) - PARTS;
  return Math.min(BUCKETS - 1, (power - Math.log2(PARTS) + 1) * PARTS + part);
}

/** The largest value of a bucket. */
function topOf(bucket: number): number {
  if (bucket < PARTS) return bucket;
  const power = Math.floor(bucket / PARTS) - 1;
  return (PARTS + (bucket % PARTS) + 1) * 2 ** power - 1;
}

export class Histogram {
  /** Doubles that one histogram needs. */
  static readonly doubles = BUCKETS + 3;
  private readonly cells: Float64Array;

  constructor(cells: Float64Array = new Float64Array(Histogram.doubles)) {
    if (cells.length !== Histogram.doubles) throw new Error(`a histogram has ${Histogram.doubles} cells`);
    this.cells = cells;
  }

  private bump(index: number, by: number): void {
    this.cells[index] = (this.cells[index] as number) + by;
  }

  record(value: number, times = 1): void {
    const sound = value > 0 ? value : 0;
    this.bump(bucketOf(sound), times);
    this.bump(COUNT, times);
    this.bump(SUM, sound * times);
    if (sound > this.max) this.cells[MAX] = sound;
  }

  /**
   * Records a wait of somebody who would have asked every `interval`: those that he did not make while he waited would have waited for
   * what was left of it (the correction of co-ordinated omission). Without it a stall of a second counts as one sample.
   */
  recordPaced(value: number, interval: number): void {
    this.record(value);
    const missed = Math.floor(value / interval) - 1;
    // Evenly spread between one interval and what is left of the wait; in at most 1024 portions.
    const portions = Math.min(1024, Math.max(0, missed));
    for (let i = 0; i < portions; i++)
      this.record(interval + ((value - 2 * interval) * (i + 0.5)) / portions, missed / portions);
  }

  get count(): number {
    return this.cells[COUNT] as number;
  }
  get max(): number {
    return this.cells[MAX] as number;
  }
  get mean(): number {
    return this.count === 0 ? 0 : (this.cells[SUM] as number) / this.count;
  }

  /** The value that `percent` of the recorded ones do not exceed; 0 when nothing was recorded. */
  percentile(percent: number): number {
    const wanted = (this.count * percent) / 100;
    let seen = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      seen += this.cells[bucket] as number;
      if (seen > 0 && seen >= wanted - 1e-9) return Math.min(topOf(bucket), this.max);
    }
    return this.max;
  }

  add(other: Histogram): void {
    for (let i = 0; i < MAX; i++) this.bump(i, other.cells[i] as number);
    this.cells[MAX] = Math.max(this.max, other.max);
  }

  clear(): void {
    this.cells.fill(0);
  }
}
