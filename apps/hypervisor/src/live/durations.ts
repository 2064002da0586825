// Percentiles of many durations in little room: counts in buckets that grow by a quarter octave, so a percentile is right to
// about a tenth. In µs.

const PER_OCTAVE = 4;
/** From 2^-7 µs to 2^33 µs. */
const LOWEST = -7;
const BUCKETS = 160;

export class Durations {
  n = 0;
  max = 0;
  private readonly counts = new Uint32Array(BUCKETS);

  add(us: number): void {
    const bucket = Math.floor((Math.log2(Math.max(us, 2 ** LOWEST)) - LOWEST) * PER_OCTAVE);
    const at = Math.min(BUCKETS - 1, Math.max(0, bucket));
    this.counts[at] = (this.counts[at] as number) + 1;
    this.n++;
    if (us > this.max) this.max = us;
  }

  /** `share` 0…1. 0 when nothing was added. */
  percentile(share: number): number {
    let left = Math.ceil(this.n * share);
    if (left === 0) return 0;
    for (let i = 0; i < BUCKETS; i++) {
      left -= this.counts[i] as number;
      if (left <= 0) return Math.min(this.max, 2 ** ((i + 0.5) / PER_OCTAVE + LOWEST));
    }
    return this.max;
  }

  clear(): void {
    this.n = 0;
    this.max = 0;
    this.counts.fill(0);
  }
}
