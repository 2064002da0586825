// Everything a host says of itself while a scenario runs, gathered: console, faults, violations, what guests report, calls that
// failed, spans for the trace. Owns the gathering and its caps; it judges nothing.
import type { GuestEventName, GuestEvents } from '#model/guest/guest-spec';
import type { MemoryMapEntry } from '#model/hypercall/calls';
import { decodeGuestNews, type GuestNews } from '#wire/guest-messages';
import type { HostInstance } from '../launcher/host-instance.ts';
import {
  type CallSpanRecord,
  type DmaSpanRecord,
  type FaultRecord,
  faultOrViolation,
  type HistoryRecord,
  historyRecords,
  opOf,
  traceRecord,
  type ViolationRecord,
} from './records.ts';
import { StreamTail } from './stream-tail.ts';

/** Spans kept for the trace of one twin. */
const SPANS_MAX = 100_000;
/** Calls kept for the sequence diagram of one twin; the ends of a run say most. */
const CALLS_HEAD = 400;
const CALLS_TAIL = 400;
const RECORDS_MAX = 20_000;
const DRAIN_MS = 3_000;

/** One faulted command buffer or receive job, as the driver that submitted it counts. */
export interface DriverReport {
  readonly tsUs: number;
  readonly id: string;
  readonly completed: number;
  readonly faults: number;
  readonly firstFaultDfn: number;
  readonly reason: number;
}

/** What one domain's kernel has said so far. */
export interface GuestSeen {
  readonly domid: number;
  readonly incarnation: number;
  name: string;
  agentPid: number;
  pid: number;
  e820: readonly MemoryMapEntry[] | null;
  ramPages: number;
  running: boolean;
  currentPages: number;
  targetPages: number;
  gpuBursts: number;
  gpuFrames: number;
  gpuCompleted: number;
  gpuFaults: number;
  /** Command buffers and jobs with faults, the first of them. */
  readonly faulted: DriverReport[];
  nicTransactions: number;
  nicFaults: number;
  memoryRounds: number;
  noWriteLost: number;
  /** Controllers and their reserved memory, by workload. */
  readonly controllers: Map<string, ControllerSeen>;
  /** Tries at reserved frames and stores into windows, by the step that asked for them. */
  readonly intrusions: Map<string, GuestEvents['enteredReserved']>;
  readonly windowUses: Map<string, GuestEvents['barIo']>;
  /** The last report of each activity. */
  readonly activities: Map<string, GuestEvents['activity']>;
  /** Orders about shared GPUs, by their ids. */
  readonly gpuOrders: Map<string, GuestEvents['gpuActivity']>;
  panic: string | null;
  ended: string | null;
}

/** What a USB controller's driver has reported. */
export interface ControllerSeen {
  region: GuestEvents['reservedRegion'] | null;
  /** Frames written because a step asked for them. */
  asked: number;
  frames: number;
  completed: number;
  faults: number;
  foreign: number;
  unseen: number;
  /** The first frame that did not hold what it should. */
  firstWrong: number;
  found: number;
}

const newController = (): ControllerSeen => ({
  region: null,
  asked: 0,
  frames: 0,
  completed: 0,
  faults: 0,
  foreign: 0,
  unseen: 0,
  firstWrong: -1,
  found: 0,
});

function newGuest(domid: number, incarnation: number): GuestSeen {
  return {
    domid,
    incarnation,
    name: '',
    agentPid: 0,
    pid: 0,
    e820: null,
    ramPages: 0,
    running: false,
    currentPages: 0,
    targetPages: 0,
    gpuBursts: 0,
    gpuFrames: 0,
    gpuCompleted: 0,
    gpuFaults: 0,
    faulted: [],
    nicTransactions: 0,
    nicFaults: 0,
    memoryRounds: 0,
    noWriteLost: 0,
    controllers: new Map(),
    intrusions: new Map(),
    windowUses: new Map(),
    activities: new Map(),
    gpuOrders: new Map(),
    panic: null,
    ended: null,
  };
}

export class Observer {
  /** Xen's console, whole. */
  readonly console: string[] = [];
  readonly faults: FaultRecord[] = [];
  faultCount = 0;
  readonly violations: ViolationRecord[] = [];
  readonly violationCounts = new Map<string, number>();
  readonly news: GuestNews[] = [];
  readonly spans: (CallSpanRecord | DmaSpanRecord)[] = [];
  spansDropped = 0;
  /** First and last calls of the run. */
  readonly firstCalls: HistoryRecord[] = [];
  lastCalls: HistoryRecord[] = [];
  callCount = 0;
  unreadable = 0;
  readonly #errors = new Map<string, number>();
  readonly #guests = new Map<string, GuestSeen>();
  readonly #tails: readonly StreamTail[];
  /** Those with one writer: only there the numbers of records tell what is missing. */
  readonly #numbered: readonly StreamTail[];
  readonly #listeners = new Set<() => void>();

  constructor({ redis, hostId }: HostInstance) {
    const tail = (...[name, hear]: [ConstructorParameters<typeof StreamTail>[2], (record: Buffer) => void]) =>
      new StreamTail(redis, hostId, name, (record) => {
        hear(record);
        for (const listener of [...this.#listeners]) listener();
      });
    this.#numbered = [
      tail('console', (record) => void this.console.push(record.toString())),
      tail('faults', (record) => this.#fault(record)),
      tail('history', (record) => this.#history(record)),
      tail('trace', (record) => this.#span(record)),
    ];
    this.#tails = [...this.#numbered, tail('guest', (record) => this.#guestNews(decodeGuestNews(record)))];
  }

  /** Records that were written and never reached this process, or could not be read. */
  get missing(): number {
    return this.#numbered.reduce((sum, tail) => sum + tail.missing, this.unreadable);
  }

  guest(domid: number): GuestSeen | null {
    let latest: GuestSeen | null = null;
    for (const seen of this.#guests.values()) if (seen.domid === domid) latest = seen;
    return latest;
  }

  guests(): GuestSeen[] {
    return [...this.#guests.values()];
  }

  /** How often operation `op` answered `rc`. */
  errors(op: string, rc: number): number {
    return this.#errors.get(`${op} ${rc}`) ?? 0;
  }

  /** Until `ready()` holds, looked at after each record; false after `timeoutMs`. */
  until(ready: () => boolean, timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer);
        this.#listeners.delete(look);
        signal.removeEventListener('abort', abort);
      };
      const look = (): void => {
        if (!ready()) return;
        settle();
        resolve(true);
      };
      const abort = (): void => {
        settle();
        reject(signal.reason);
      };
      const timer = setTimeout(() => {
        settle();
        resolve(ready());
      }, timeoutMs);
      if (signal.aborted) return abort();
      signal.addEventListener('abort', abort, { once: true });
      this.#listeners.add(look);
      look();
    });
  }

  /** Until everything written so far is here. False: some of it could not be had. */
  async drain(): Promise<boolean> {
    const all = await Promise.all(this.#tails.map((tail) => tail.drained(DRAIN_MS)));
    return all.every(Boolean);
  }

  async close(): Promise<void> {
    await Promise.all(this.#tails.map((tail) => tail.close()));
  }

  #fault(buffer: Buffer): void {
    const record = faultOrViolation(buffer);
    if (!record) {
      this.unreadable++;
    } else if (record.kind === 'dma-fault') {
      this.faultCount++;
      if (this.faults.length < RECORDS_MAX) this.faults.push(record);
    } else {
      this.violationCounts.set(record.invariant, (this.violationCounts.get(record.invariant) ?? 0) + 1);
      if (this.violations.length < RECORDS_MAX) this.violations.push(record);
    }
  }

  #history(buffer: Buffer): void {
    for (const record of historyRecords(buffer)) {
      this.callCount++;
      const op = opOf(record);
      const rc = record.answer?.rc ?? 0;
      if (op !== null && rc < 0) this.#errors.set(`${op} ${rc}`, (this.#errors.get(`${op} ${rc}`) ?? 0) + 1);
      if (this.firstCalls.length < CALLS_HEAD) this.firstCalls.push(record);
      else this.lastCalls.push(record);
      if (this.lastCalls.length > 2 * CALLS_TAIL) this.lastCalls = this.lastCalls.slice(-CALLS_TAIL);
    }
  }

  /** Found by a guest's kernel in its own affairs. */
  #kernelViolation(tsUs: number, { invariant, text, count, evidence }: GuestEvents['violation']): void {
    this.violationCounts.set(invariant, (this.violationCounts.get(invariant) ?? 0) + count);
    if (this.violations.length < RECORDS_MAX)
      this.violations.push({ kind: 'violation', tsUs, invariant, text, evidence });
  }

  #span(buffer: Buffer): void {
    const record = traceRecord(buffer);
    if (!record) this.unreadable++;
    else if (this.spans.length < SPANS_MAX) this.spans.push(record);
    else this.spansDropped++;
  }

  #guestNews(news: GuestNews): void {
    const key = `${news.domid}/${news.incarnation}`;
    let guest = this.#guests.get(key);
    if (!guest) {
      guest = newGuest(news.domid, news.incarnation);
      this.#guests.set(key, guest);
    }
    const telling = news.kind !== 'event' || !repeated.has(news.name);
    if (telling && this.news.length < RECORDS_MAX) this.news.push(news);
    if (news.kind === 'placed') {
      guest.name = news.guest;
      guest.agentPid = news.agentPid;
      guest.pid = news.pid;
    } else if (news.kind === 'exit') guest.ended = news.why;
    else if (news.name === 'violation') this.#kernelViolation(news.tsUs, news.data);
    else hearEvent(guest, news.tsUs, news.name, news.data);
  }
}

/** Reports that come by the hundred: their sums are kept. */
const repeated: ReadonlySet<GuestEventName> = new Set([
  'nicJob',
  'memoryRound',
  'gpuBurst',
  'reservedIo',
  'enteredReserved',
  'gpuActivity',
  'activity',
  'violation',
]);

function hearEvent<N extends GuestEventName>(guest: GuestSeen, tsUs: number, name: N, data: GuestEvents[N]): void {
  const hear = hearers[name] as ((guest: GuestSeen, data: GuestEvents[N], tsUs: number) => void) | undefined; // the table's entry for N
  hear?.(guest, data, tsUs);
}

/** What is remembered of each kind of report. */
const hearers: { [N in GuestEventName]?: (guest: GuestSeen, data: GuestEvents[N], tsUs: number) => void } = {
  e820: (guest, { entries, ramPages }) => {
    guest.e820 = entries;
    guest.ramPages = ramPages;
  },
  running: (guest, { currentPages, targetPages }) => {
    guest.running = true;
    guest.currentPages = currentPages;
    guest.targetPages = targetPages;
  },
  balloon: (guest, { currentPages, targetPages }) => {
    guest.currentPages = currentPages;
    guest.targetPages = targetPages;
  },
  gpuBurst: (guest, { id, frames, completed, faults, firstFaultDfn, reason }, tsUs) => {
    guest.gpuBursts++;
    guest.gpuFrames += frames;
    guest.gpuCompleted += completed;
    guest.gpuFaults += faults;
    if (faults > 0) noteFaulted(guest, { tsUs, id, completed, faults, firstFaultDfn, reason });
  },
  nicJob: (guest, { id, completed, faults, firstFaultDfn, reason }, tsUs) => {
    guest.nicTransactions += completed + faults;
    guest.nicFaults += faults;
    if (faults > 0) noteFaulted(guest, { tsUs, id, completed, faults, firstFaultDfn, reason });
  },
  memoryRound: (guest) => {
    guest.memoryRounds++;
  },
  noWriteLost: (guest, { bad }) => {
    guest.noWriteLost += bad;
  },
  reservedRegion: (guest, region) => {
    controllerOf(guest, region.id).region = region;
  },
  reservedIo: (guest, { id, asked, frames, completed, faults, foreign, unseen, firstWrong, found }) => {
    const seen = controllerOf(guest, id);
    if (asked) seen.asked += frames;
    seen.frames += frames;
    seen.completed += completed;
    seen.faults += faults;
    if (foreign + unseen > 0 && seen.firstWrong < 0) {
      seen.firstWrong = firstWrong;
      seen.found = found;
    }
    seen.foreign += foreign;
    seen.unseen += unseen;
  },
  enteredReserved: (guest, progress) => {
    guest.intrusions.set(progress.id, progress);
  },
  barIo: (guest, use) => {
    guest.windowUses.set(use.id, use);
  },
  gpuActivity: (guest, figures) => {
    guest.gpuOrders.set(figures.id, figures);
  },
  activity: (guest, report) => {
    guest.activities.set(report.id, report);
  },
  panic: (guest, { text }) => {
    guest.panic ??= text;
  },
};

function controllerOf(guest: GuestSeen, id: string): ControllerSeen {
  const seen = guest.controllers.get(id) ?? newController();
  guest.controllers.set(id, seen);
  return seen;
}

function noteFaulted(guest: GuestSeen, report: DriverReport): void {
  if (guest.faulted.length < RECORDS_MAX) guest.faulted.push(report);
}
