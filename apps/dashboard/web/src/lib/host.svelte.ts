// The host as this page knows it: the live connection, the newest looks and a little of their past, the log, questions and deeds. Looks
// are replaced whole and never looked into by Svelte's proxies, so that thousands of cells cost nothing.
import { io, type Socket } from 'socket.io-client';
import type {
  Answered,
  Deed,
  DeedResult,
  EventBatch,
  Hello,
  HostEvent,
  PageToServer,
  Question,
  ServerToPage,
} from '#wire/dashboard';
import type { Machine } from '#wire/hv-messages';
import {
  type LiveDomain,
  type LiveHead,
  type LiveLanes,
  type LiveLook,
  type LiveMap,
  type LivePulse,
  type LiveSlow,
  type LiveStrip,
  type LiveWant,
  type LockWait,
  unpackLooks,
  wantKey,
} from '#wire/live';
import { token } from './route.svelte.ts';
import { Series } from './series.ts';

const EVENTS_KEPT = 3000;
const CHART_SECONDS = 120;
/** Lane looks kept, a quarter second each. */
const LANES_KEPT = 80;
const WAITS_KEPT = 200;

export type Connection = 'connecting' | 'live' | 'lost' | 'refused';

interface Rates {
  readonly hypercalls: number;
  readonly dma: number;
  readonly iotlbHit: number;
  readonly iotlbMiss: number;
  readonly flushes: number;
  readonly domains: ReadonlyMap<number, number>;
  readonly devices: ReadonlyMap<number, number>;
}

export interface LaneLook {
  readonly head: LiveLanes;
  readonly bytes: Uint8Array;
}

class HostStore {
  connection = $state<Connection>('connecting');
  refusal = $state('');
  hypervisorAlive = $state(true);
  hostId = $state('');
  mayChange = $state(false);
  machine = $state.raw<Machine | null>(null);
  pulse = $state.raw<LivePulse | null>(null);
  slow = $state.raw<LiveSlow | null>(null);
  rates = $state.raw<Rates | null>(null);
  map = $state.raw<{ head: LiveMap; bytes: Uint8Array } | null>(null);
  strip = $state.raw<{ head: LiveStrip; bytes: Uint8Array } | null>(null);
  lanes = $state.raw<readonly LaneLook[]>([]);
  waits = $state.raw<readonly LockWait[]>([]);
  events = $state.raw<readonly HostEvent[]>([]);
  skipped = $state(0);
  paused = $state(false);
  /** Counts up with every pulse: charts redraw. */
  beat = $state(0);
  readonly dma = new Series(['DMA', 'hits', 'misses', 'invalidations'], CHART_SECONDS);
  readonly memory = new Map<number, Series>();
  /** Memory maps as guests' kernels see them, by domain. */
  e820 = $state.raw<ReadonlyMap<number, NonNullable<HostEvent['e820']>>>(new Map());
  private readonly socket: Socket<ServerToPage, PageToServer>;
  private wants: readonly LiveWant[] = [];
  private life = '';
  private lastSeq = 0;
  private before: LivePulse | null = null;

  constructor() {
    this.socket = io({
      transports: ['websocket'],
      auth: (give) =>
        give({
          ...(token === null ? {} : { token }),
          ...(this.life === '' ? {} : { life: this.life, seq: this.lastSeq }),
        }),
    });
    this.socket.on('connect', () => {
      this.connection = 'live';
      this.socket.emit('wants', this.wants);
    });
    this.socket.on('disconnect', () => {
      this.connection = 'lost';
    });
    this.socket.on('connect_error', (error) => {
      const refused = /token|pages/.test(error.message);
      this.refusal = refused ? error.message : '';
      this.connection = refused ? 'refused' : this.life === '' ? 'connecting' : 'lost';
    });
    this.socket.on('hello', (hello) => this.greet(hello));
    this.socket.on('host', ({ alive }) => {
      this.hypervisorAlive = alive;
    });
    this.socket.on('events', (batch) => this.hear(batch));
    this.socket.on('looks', (message) => {
      if (this.paused) return;
      for (const look of unpackLooks(new Uint8Array(message))) this.take(look);
    });
  }

  /** What the visible view needs; everything else costs nobody anything. */
  want(wants: readonly LiveWant[]): void {
    if (wants.map(wantKey).join() === this.wants.map(wantKey).join()) return;
    this.wants = wants;
    if (this.socket.connected) this.socket.emit('wants', wants);
  }

  ask<T>(question: Question): Promise<Answered<T>> {
    return this.socket
      .timeout(8000)
      .emitWithAck('ask', question)
      .then(
        (answer) => answer as Answered<T>, // the server answers what was asked
        () => ({ ok: false, why: 'no answer' }) as const,
      );
  }

  do(deed: Deed): Promise<DeedResult> {
    return this.socket
      .timeout(130_000)
      .emitWithAck('do', deed)
      .catch(() => ({ ok: false, text: 'no answer: look whether it was done' }));
  }

  domain(domid: number): LiveDomain | null {
    return this.pulse?.domains.find((d) => d.domid === domid) ?? null;
  }

  private greet(hello: Hello): void {
    if (hello.life !== this.life) {
      this.events = [];
      this.lastSeq = 0;
    }
    this.life = hello.life;
    this.hostId = hello.hostId;
    this.mayChange = hello.mayChange;
    this.machine = hello.machine as Machine; // the hypervisor's own description, checked by the server
    this.hear({ life: hello.life, events: hello.events, skipped: 0 });
  }

  private hear({ life, events, skipped }: EventBatch): void {
    if (life !== this.life) return;
    const fresh = events.filter(({ seq }) => seq > this.lastSeq);
    if (fresh.length === 0) return;
    this.lastSeq = fresh.at(-1)?.seq ?? this.lastSeq;
    this.skipped += skipped;
    for (const { domid, e820 } of fresh) if (e820) this.e820 = new Map(this.e820).set(domid, e820);
    this.events = [...this.events, ...fresh].slice(-EVENTS_KEPT);
  }

  private take({ head, bytes }: LiveLook): void {
    const takers: { [K in LiveHead['kind']]: (head: Extract<LiveHead, { kind: K }>) => void } = {
      pulse: (pulse) => this.takePulse(pulse),
      slow: (slow) => {
        this.slow = slow;
      },
      map: (map) => {
        this.map = { head: map, bytes };
      },
      strip: (strip) => {
        this.strip = { head: strip, bytes };
      },
      lanes: (lanes) => {
        this.lanes = [...this.lanes.slice(1 - LANES_KEPT), { head: lanes, bytes }];
        if (lanes.waits.length > 0) this.waits = [...lanes.waits, ...this.waits].slice(0, WAITS_KEPT);
      },
    };
    (takers[head.kind] as (head: LiveHead) => void)(head); // the taker of its kind
  }

  private takePulse(pulse: LivePulse): void {
    const before = this.before;
    this.before = pulse;
    this.pulse = pulse;
    if (before && pulse.tsUs > before.tsUs) {
      this.rates = ratesOf(before, pulse);
      const { dma, iotlbHit, iotlbMiss, flushes } = this.rates;
      this.dma.push(pulse.tsUs / 1e6, [dma, iotlbHit, iotlbMiss, flushes]);
    }
    for (const d of pulse.domains) {
      const key = d.incarnation;
      let series = this.memory.get(key);
      if (!series) {
        series = new Series(['current', 'target', 'maximum', 'PoD entries', 'PoD cache'], CHART_SECONDS);
        this.memory.set(key, series);
      }
      const target = this.targetPages(d.domid) || d.totPages;
      series.push(
        pulse.tsUs / 1e6,
        [d.totPages, target, d.maxPages < 2 ** 31 ? d.maxPages : d.totPages, d.podEntries, d.podCache].map(
          (n) => n / 256,
        ),
      );
    }
    for (const key of this.memory.keys())
      if (!pulse.domains.some((d) => d.incarnation === key)) this.memory.delete(key);
    this.beat++;
  }

  /** 0: it has none. */
  targetPages(domid: number): number {
    return (this.slow?.guests.find((guest) => guest.domid === domid)?.targetKb ?? 0) / 4;
  }
}

function ratesOf(before: LivePulse, now: LivePulse): Rates {
  const seconds = (now.tsUs - before.tsUs) / 1e6;
  const grown = (name: string): number =>
    Math.max(0, (now.counters[name] ?? 0) - (before.counters[name] ?? 0)) / seconds;
  const domains = new Map(
    now.domains.map((d) => {
      const old = before.domains.find(({ incarnation }) => incarnation === d.incarnation);
      return [d.domid, Math.max(0, d.calls - (old?.calls ?? d.calls)) / seconds] as const;
    }),
  );
  const devices = new Map(
    now.devices.map((device) => {
      const old = before.devices.find(({ sbdf }) => sbdf === device.sbdf);
      return [device.sbdf, Math.max(0, device.completed - (old?.completed ?? device.completed)) / seconds] as const;
    }),
  );
  return {
    hypercalls: grown('hypercall.done'),
    dma: grown('dma.transactions'),
    iotlbHit: grown('iotlb.hit'),
    iotlbMiss: grown('iotlb.miss'),
    flushes: grown('iommu.flushPage') + grown('iommu.flushDomain'),
    domains,
    devices,
  };
}

export const host = new HostStore();
