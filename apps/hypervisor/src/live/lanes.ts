// What each pCPU did, from the events its thread noted: columns of a millisecond for the picture, and, for each lock, how long it
// was held and waited for, and who held it while somebody waited. It follows events in the order of their clock; what it says of
// the moment before it began to follow is nothing.
import { type LockLog, lockEvent } from '#model/shared-memory/lock-log';
import { LANE_COLUMN_BYTES, LANE_COLUMN_US, type LiveLanes, type LockTimes, type LockWait, laneByte } from '#wire/live';
import { Durations } from './durations.ts';

/** Waits told at a time, the longest. */
const WAITS_MAX = 24;
const WAITS_KEPT = 1000;
/** A wait is worth telling from here on, µs. */
const WAIT_WORTH_US = 20;
const COLUMNS_MAX = 512;
const FULL = 255;

interface Event {
  readonly tsUs: number;
  readonly cpu: number;
  readonly kind: number;
  readonly number: number;
}

interface Running {
  readonly domid: number;
  readonly call: string;
}

/** What a CPU is doing while its events are followed. */
interface CpuState {
  running: Running | null;
  readonly held: { readonly lock: number; readonly sinceUs: number }[];
  waiting: { readonly lock: number; readonly sinceUs: number; readonly holder: Holder | null } | null;
  /** Up to where its lane is drawn. */
  drawnUs: number;
}

interface Holder {
  readonly cpu: number;
  readonly running: Running | null;
}

interface LockStats {
  readonly holds: Durations;
  readonly waits: Durations;
}

export interface LaneNames {
  readonly cpus: readonly string[];
  /** Name of a lock by its number. */
  readonly lock: (lock: number) => string;
  /** Of a run event's number. */
  readonly run: (number: number) => Running;
}

const idle: Running = { domid: -1, call: '' };

export class LaneReader {
  private readonly log: LockLog;
  private readonly names: LaneNames;
  private readonly positions: number[];
  private readonly cpus: CpuState[];
  private readonly holders = new Map<number, Holder>();
  private readonly stats = new Map<number, LockStats>();
  private picture: Picture;
  private waits: LockWait[] = [];
  private missed = 0;

  /** Follows from now on. */
  constructor(log: LockLog, names: LaneNames, nowUs: number) {
    this.log = log;
    this.names = names;
    this.positions = names.cpus.map((_, cpu) => log.position(cpu));
    this.cpus = names.cpus.map(() => ({ running: null, held: [], waiting: null, drawnUs: nowUs }));
    this.picture = new Picture(nowUs, names.cpus.length);
  }

  /** Follows what was noted since the last call. To be called so often that no ring runs over. */
  poll(): void {
    const events: Event[] = [];
    let missed = 0;
    for (const cpu of this.cpus.keys()) {
      const from = this.positions[cpu] as number; // one for each
      this.positions[cpu] = this.log.position(cpu);
      missed += this.log.read(cpu, from, (tsUs, kind, number) => events.push({ tsUs, cpu, kind, number }));
    }
    if (missed > 0) this.forget();
    this.missed += missed;
    events.sort((a, b) => a.tsUs - b.tsUs);
    for (const event of events) {
      const state = this.cpus[event.cpu] as CpuState; // events were read by its index
      this.picture.draw(event.cpu, state.drawnUs, event.tsUs, state);
      state.drawnUs = event.tsUs;
      this.follow(event, state);
    }
  }

  /** Everything since the last call of this; the bytes are LANE_COLUMN_BYTES for each column of each CPU, CPU after CPU. */
  read(nowUs: number): { head: LiveLanes; bytes: Uint8Array } {
    this.poll();
    const { picture } = this;
    const columns = picture.columnsUntil(nowUs);
    const endUs = picture.fromUs + columns * LANE_COLUMN_US;
    for (const [cpu, state] of this.cpus.entries()) {
      picture.draw(cpu, state.drawnUs, endUs, state);
      state.drawnUs = Math.max(state.drawnUs, endUs);
    }
    this.waits.sort((a, b) => b.us - a.us);
    const head: LiveLanes = {
      kind: 'lanes',
      key: 'lanes',
      fromUs: picture.fromUs,
      columns,
      cpus: this.names.cpus,
      locks: picture.locks.map((lock) => this.names.lock(lock)),
      times: this.times(),
      waits: this.waits.slice(0, WAITS_MAX),
      missed: this.missed,
    };
    const bytes = picture.bytes(columns);
    this.picture = new Picture(endUs, this.cpus.length);
    this.waits = [];
    this.missed = 0;
    return { head, bytes };
  }

  /** After a gap nobody knows who holds what. */
  private forget(): void {
    this.holders.clear();
    for (const state of this.cpus) {
      state.held.length = 0;
      state.waiting = null;
    }
  }

  private follow({ tsUs, cpu, kind, number }: Event, state: CpuState): void {
    switch (kind) {
      case lockEvent.run:
        state.running = this.names.run(number);
        return;
      case lockEvent.idle:
        state.running = null;
        return;
      case lockEvent.wait:
        state.waiting = { lock: number, sinceUs: tsUs, holder: this.holders.get(number) ?? null };
        return;
      case lockEvent.taken:
        this.taken(tsUs, cpu, number, state);
        return;
      case lockEvent.freed: {
        const at = state.held.findLastIndex(({ lock }) => lock === number);
        const [hold] = at < 0 ? [] : state.held.splice(at, 1);
        if (hold) this.statsOf(number).holds.add(tsUs - hold.sinceUs);
        if (this.holders.get(number)?.cpu === cpu) this.holders.delete(number);
      }
    }
  }

  private taken(tsUs: number, cpu: number, lock: number, state: CpuState): void {
    const wait = state.waiting;
    if (wait?.lock === lock) {
      const us = tsUs - wait.sinceUs;
      this.statsOf(lock).waits.add(us);
      if (us >= WAIT_WORTH_US && this.waits.length < WAITS_KEPT)
        this.waits.push(this.waitOf(tsUs, us, lock, cpu, state, wait.holder));
      state.waiting = null;
    }
    state.held.push({ lock, sinceUs: tsUs });
    this.holders.set(lock, { cpu, running: state.running });
  }

  private waitOf(
    tsUs: number,
    us: number,
    lock: number,
    cpu: number,
    state: CpuState,
    holder: Holder | null,
  ): LockWait {
    const own = state.running ?? idle;
    const other = holder?.running ?? idle;
    return {
      tsUs: tsUs - us,
      us,
      lock: this.names.lock(lock),
      cpu,
      call: own.call,
      domid: own.domid,
      holderCpu: holder?.cpu ?? -1,
      holderCall: other.call,
      holderDomid: other.domid,
    };
  }

  private statsOf(lock: number): LockStats {
    let stats = this.stats.get(lock);
    if (!stats) {
      stats = { holds: new Durations(), waits: new Durations() };
      this.stats.set(lock, stats);
    }
    return stats;
  }

  private times(): LockTimes[] {
    const of = (d: Durations) => ({ n: d.n, p50: d.percentile(0.5), p99: d.percentile(0.99), max: d.max });
    return [...this.stats].map(([lock, { holds, waits }]) => ({
      lock: this.names.lock(lock),
      holds: of(holds),
      waits: of(waits),
    }));
  }
}

/** Time spent running, holding and waiting, gathered by column. */
class Picture {
  readonly fromUs: number;
  /** Locks in sight, by their place. */
  readonly locks: number[] = [];
  private readonly cpus: number;
  private readonly us: readonly Float64Array[];
  private readonly cells: Uint8Array;

  constructor(fromUs: number, cpus: number) {
    this.fromUs = fromUs;
    this.cpus = cpus;
    this.us = [0, 1, 2].map(() => new Float64Array(COLUMNS_MAX * cpus));
    this.cells = new Uint8Array(COLUMNS_MAX * cpus * LANE_COLUMN_BYTES);
  }

  /** Whole columns between its begin and `nowUs`. */
  columnsUntil(nowUs: number): number {
    return Math.min(COLUMNS_MAX, Math.max(1, Math.floor((nowUs - this.fromUs) / LANE_COLUMN_US)));
  }

  draw(cpu: number, startUs: number, endUs: number, state: CpuState): void {
    const held = state.held.at(-1)?.lock;
    const kind = state.waiting ? laneByte.wait : held !== undefined ? laneByte.hold : state.running ? laneByte.run : -1;
    if (kind < 0) return;
    const first = Math.max(0, Math.floor((startUs - this.fromUs) / LANE_COLUMN_US));
    const last = Math.min(COLUMNS_MAX - 1, Math.floor((endUs - this.fromUs) / LANE_COLUMN_US));
    for (let column = first; column <= last; column++) {
      const begin = this.fromUs + column * LANE_COLUMN_US;
      const us = Math.min(endUs, begin + LANE_COLUMN_US) - Math.max(startUs, begin);
      if (us <= 0) continue;
      const at = cpu * COLUMNS_MAX + column;
      const sums = this.us[kind] as Float64Array; // one of the three
      sums[at] = (sums[at] as number) + us;
      if (held !== undefined) this.cells[at * LANE_COLUMN_BYTES + laneByte.heldLock] = this.place(held);
      if (state.waiting) this.cells[at * LANE_COLUMN_BYTES + laneByte.waitedLock] = this.place(state.waiting.lock);
    }
  }

  private place(lock: number): number {
    const known = this.locks.indexOf(lock);
    if (known >= 0) return known + 1;
    return this.locks.length < FULL - 1 ? this.locks.push(lock) : FULL;
  }

  /** Its first columns, CPU after CPU. */
  bytes(columns: number): Uint8Array {
    for (const [kind, sums] of this.us.entries()) {
      for (let at = 0; at < sums.length; at++) {
        const share = ((sums[at] as number) / LANE_COLUMN_US) * FULL;
        this.cells[at * LANE_COLUMN_BYTES + kind] = Math.min(FULL, Math.ceil(share));
      }
    }
    const out = new Uint8Array(columns * this.cpus * LANE_COLUMN_BYTES);
    for (let cpu = 0; cpu < this.cpus; cpu++) {
      const from = cpu * COLUMNS_MAX * LANE_COLUMN_BYTES;
      out.set(this.cells.subarray(from, from + columns * LANE_COLUMN_BYTES), cpu * columns * LANE_COLUMN_BYTES);
    }
    return out;
  }
}
