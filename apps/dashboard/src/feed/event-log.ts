// The host's events in one order, for pages that come, go and come back: each gets the next number, the newest are kept, and what a
// page has not seen can be asked for by the last number it has. A flood is cut to what a person can read, and counted.
import { randomBytes } from 'node:crypto';
import type { EventBatch, HostEvent } from '#wire/dashboard';

const KEPT = 5000;
/** Of one batch. */
const BATCH_MAX = 200;

export type NewEvent = Omit<HostEvent, 'seq'>;

export class EventLog {
  readonly life = randomBytes(6).toString('hex');
  private readonly kept: HostEvent[] = [];
  private fresh: HostEvent[] = [];
  private skipped = 0;
  private next = 1;

  get lastSeq(): number {
    return this.next - 1;
  }

  add(event: NewEvent): void {
    const numbered = { ...event, seq: this.next++ };
    this.kept.push(numbered);
    if (this.kept.length > KEPT * 1.25) this.kept.splice(0, this.kept.length - KEPT);
    this.fresh.push(numbered);
    if (this.fresh.length <= BATCH_MAX) return;
    // What somebody must not miss stays: faults and broken invariants.
    const dull = this.fresh.findIndex(({ kind }) => kind === 'console' || kind === 'guest');
    this.fresh.splice(Math.max(0, dull), 1);
    this.skipped++;
  }

  /** What came since the last call; null: nothing. */
  takeBatch(): EventBatch | null {
    if (this.fresh.length === 0) return null;
    const batch = { life: this.life, events: this.fresh, skipped: this.skipped };
    this.fresh = [];
    this.skipped = 0;
    return batch;
  }

  /** Kept events after number `seq` of the life `life`; all of them for a page of another life. */
  since(life: string | undefined, seq: number): HostEvent[] {
    return life === this.life ? this.kept.filter((event) => event.seq > seq) : [...this.kept];
  }
}
