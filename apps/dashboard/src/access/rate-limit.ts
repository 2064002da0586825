// How often somebody may ask: a bucket of requests per visitor, filled at a steady rate. Visitors who went away are forgotten.

export interface Rate {
  readonly perSecond: number;
  /** At once, after a rest. */
  readonly burst: number;
}

interface Bucket {
  left: number;
  atMs: number;
}

const VISITORS_MAX = 4096;

export class RateLimit {
  private readonly buckets = new Map<string, Bucket>();
  private readonly rate: Rate;

  constructor(rate: Rate) {
    this.rate = rate;
  }

  /** False: too often. `nowMs` only ever grows. */
  take(visitor: string, nowMs: number): boolean {
    const bucket = this.bucketOf(visitor, nowMs);
    const { perSecond, burst } = this.rate;
    bucket.left = Math.min(burst, bucket.left + ((nowMs - bucket.atMs) / 1000) * perSecond);
    bucket.atMs = nowMs;
    if (bucket.left < 1) return false;
    bucket.left--;
    return true;
  }

  private bucketOf(visitor: string, nowMs: number): Bucket {
    const known = this.buckets.get(visitor);
    if (known) return known;
    if (this.buckets.size >= VISITORS_MAX) this.forgetRested(nowMs);
    const bucket = { left: this.rate.burst, atMs: nowMs };
    this.buckets.set(visitor, bucket);
    return bucket;
  }

  /** A full bucket says as much as none; if all are in use, the oldest goes. */
  private forgetRested(nowMs: number): void {
    const restMs = (this.rate.burst / this.rate.perSecond) * 1000;
    for (const [visitor, { atMs }] of this.buckets) if (nowMs - atMs > restMs) this.buckets.delete(visitor);
    const [oldest] = this.buckets.keys();
    if (this.buckets.size >= VISITORS_MAX && oldest !== undefined) this.buckets.delete(oldest);
  }
}
