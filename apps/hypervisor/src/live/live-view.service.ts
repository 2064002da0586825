// What the hypervisor shows to those who look: a pulse of figures, and the pictures that somebody asked for, put on the stream
// `live`. While nobody holds a lease nothing here runs and no thread notes anything. Pictures of tables are taken at safepoints, so
// seldom that the host stands still for a few hundredths of its time at most.
import { Inject, Injectable } from '@nestjs/common';
import { stateLetters } from '#formats/xl-output';
import type { Domain } from '#model/domain/domain';
import { domainFlags } from '#model/hypercall/domain-info';
import { callColumns } from '#wire/call-table';
import {
  encodeLook,
  type LiveDevice,
  type LiveDomain,
  type LiveHead,
  type LiveMap,
  type LiveStrip,
  type LiveWant,
  wantKey,
} from '#wire/live';
import { HYPERVISOR_CONFIG, type HypervisorConfig } from '../config.ts';
import type { JobSpan } from '../dma/dma-messages.ts';
import { HostService } from '../host.service.ts';
import { SafepointService } from '../safepoint.service.ts';
import { TelemetryService } from '../telemetry.service.ts';
import { ThreadPoolService } from '../thread-pool.service.ts';
import { nowUs } from '../thread-setup.ts';
import { VcpuQueuesService } from '../vcpu-queues.service.ts';
import { FrameGround, mapCells } from './frame-map.ts';
import { LaneReader } from './lanes.ts';
import { operationHash, runOf } from './run-number.ts';
import { stripsOf } from './strips.ts';

const PULSE_MS = 250;
/** The threads' notes are read so often that their rings seldom run over. */
const LANES_MS = 20;
/** Between two pictures of the same thing, at least; and so many times what one costs. */
const PICTURE_MS = 500;
const PICTURE_SHARE = 25;

const operationNames = new Map<number, string>([...callColumns.values()].map(({ op }) => [operationHash(op), op]));

interface Picture {
  dueMs: number;
  /** What was sent last: the same is not sent again. */
  bytes: Uint8Array | null;
  head: string;
}

type DeviceSums = { jobs: number; completed: number; faults: number; busyUs: number };

@Injectable()
export class LiveViewService {
  private readonly config: HypervisorConfig;
  private readonly host: HostService;
  private readonly pool: ThreadPoolService;
  private readonly safepoint: SafepointService;
  private readonly telemetry: TelemetryService;
  private readonly queues: VcpuQueuesService;
  private readonly ground: FrameGround;
  private readonly pictures = new Map<string, Picture>();
  private readonly devices = new Map<number, DeviceSums>();
  private wants: readonly LiveWant[] = [];
  private lanes: LaneReader | null = null;
  private timer: NodeJS.Timeout | null = null;
  private laneTimer: NodeJS.Timeout | undefined;
  private leaseEndsMs = 0;
  private looking: Promise<void> = Promise.resolve();
  private busy = false;

  constructor(
    @Inject(HYPERVISOR_CONFIG) config: HypervisorConfig,
    @Inject(HostService) host: HostService,
    @Inject(ThreadPoolService) pool: ThreadPoolService,
    @Inject(SafepointService) safepoint: SafepointService,
    @Inject(TelemetryService) telemetry: TelemetryService,
    @Inject(VcpuQueuesService) queues: VcpuQueuesService,
  ) {
    this.config = config;
    this.host = host;
    this.pool = pool;
    this.safepoint = safepoint;
    this.telemetry = telemetry;
    this.queues = queues;
    this.ground = new FrameGround(host.host);
    telemetry.onJobs((jobs) => this.jobs(jobs));
  }

  /** Somebody looks, for `leaseMs` from now unless it is renewed. */
  watch(leaseMs: number, wants: readonly LiveWant[]): void {
    this.leaseEndsMs = performance.now() + leaseMs;
    this.wants = wants;
    const keys = new Set(wants.map(wantKey));
    for (const key of this.pictures.keys()) if (!keys.has(key)) this.pictures.delete(key);
    this.followLanes(wants.some(({ kind }) => kind === 'lanes'));
    if (this.timer) return;
    this.host.words.watch(true);
    this.queues.timing(true);
    this.timer = setInterval(() => this.tick(), PULSE_MS);
  }

  /** Somebody new looks: what was sent before is sent again. */
  refresh(): void {
    for (const picture of this.pictures.values()) picture.bytes = null;
  }

  async close(): Promise<void> {
    this.stop();
    await this.looking;
  }

  private stop(): void {
    if (this.timer) clearInterval(this.timer);
    this.timer = null;
    this.host.words.watch(false);
    this.queues.timing(false);
    this.followLanes(false);
    this.pictures.clear();
  }

  private followLanes(on: boolean): void {
    if (on === (this.lanes !== null)) return;
    const log = this.host.host.lockTable.log;
    if (!log) return;
    log.switch(on);
    const cpus = Array.from({ length: this.config.host.pcpus }, (_, cpu) => `CPU ${cpu}`);
    const names = {
      cpus,
      lock: (lock: number) => this.lockName(lock),
      run: (number: number) => runOf(number, operationNames),
    };
    this.lanes = on ? new LaneReader(log, names, nowUs()) : null;
    clearInterval(this.laneTimer);
    this.laneTimer = on ? setInterval(() => this.lanes?.poll(), LANES_MS) : undefined;
  }

  /** A lock of a domain by that domain's number, as `xl` users know it. */
  private lockName(lock: number): string {
    const { host } = this.host;
    return host.lockTable.nameOf(lock).replace(/\(d(\d+)\)$/, (_, slot: string) => {
      return `(d${host.slot(Number(slot)).r.domid})`;
    });
  }

  private tick(): void {
    if (performance.now() > this.leaseEndsMs) {
      this.stop();
      return;
    }
    this.send({
      kind: 'pulse',
      tsUs: nowUs(),
      freePages: this.host.host.heap.freePages,
      counters: this.host.host.counters.snapshot(),
      wire: { ...this.queues.counters() },
      violations: Object.fromEntries(this.telemetry.violations),
      domains: this.domains(),
      devices: this.deviceFigures(),
      locks: this.host.host.lockProfile().filter(({ lockCnt }) => lockCnt > 0),
      pcpuUs: [...this.pool.runQueue.pcpuUs],
    });
    if (this.lanes) {
      const { head, bytes } = this.lanes.read(nowUs());
      this.send(head, bytes);
    }
    // A look at tables waits for its safepoint; the next tick does not queue up behind it.
    if (this.busy) return;
    this.busy = true;
    this.looking = this.drawDue()
      .catch(() => {}) // the host is ending, or a thread did not park: there will be another look
      .finally(() => {
        this.busy = false;
      });
  }

  private async drawDue(): Promise<void> {
    for (const want of this.wants) {
      if (want.kind === 'lanes') continue;
      const key = wantKey(want);
      const picture = this.pictures.get(key) ?? { dueMs: 0, bytes: null, head: '' };
      this.pictures.set(key, picture);
      if (performance.now() < picture.dueMs) continue;
      const started = performance.now();
      const drawn = want.kind === 'map' ? this.map(want, key) : await this.strip(want, key);
      if (!drawn) continue;
      const cost = want.kind === 'map' ? performance.now() - started : (drawn.head as LiveStrip).ms;
      picture.dueMs = started + Math.max(PICTURE_MS, cost * PICTURE_SHARE);
      this.sendChanged(picture, drawn.head, drawn.bytes);
    }
  }

  private map(want: Extract<LiveWant, { kind: 'map' }>, key: string): { head: LiveMap; bytes: Uint8Array } {
    const { host } = this.host;
    const bytes = mapCells(host, this.ground, want.first, want.order);
    const { first, order } = want;
    return { head: { kind: 'map', key, first, order, cells: bytes.length / 4, frames: host.config.frames }, bytes };
  }

  private async strip(
    want: Extract<LiveWant, { kind: 'strip' }>,
    key: string,
  ): Promise<{ head: LiveStrip; bytes: Uint8Array } | null> {
    return this.safepoint.at(() => {
      const { host } = this.host;
      const d = host.domain(want.domid);
      if (!d || d.dying) return null;
      const started = performance.now();
      const { bytes, ...found } = stripsOf(host, d, want.from, want.to);
      const { domid } = want;
      const head: LiveStrip = {
        kind: 'strip',
        key,
        domid,
        incarnation: d.r.incarnation,
        shared: d.has('hapPtShare'),
        iommu: d.has('iommu'),
        memoryMap: memoryMapOf(d),
        ...found,
        ms: performance.now() - started,
      };
      return { head, bytes };
    });
  }

  /** What shows the same as last time is not sent. */
  private sendChanged(picture: Picture, head: LiveMap | LiveStrip, bytes: Uint8Array): void {
    const text = JSON.stringify({ ...head, ms: 0 });
    if (picture.bytes && picture.head === text && Buffer.compare(picture.bytes, bytes) === 0) return;
    picture.bytes = bytes;
    picture.head = text;
    this.send(head, bytes);
  }

  private send(head: LiveHead, bytes?: Uint8Array): void {
    this.telemetry.live(encodeLook(head, bytes));
  }

  private domains(): LiveDomain[] {
    const { host } = this.host;
    return host
      .allDomains()
      .sort((a, b) => a.domid - b.domid)
      .map((d) => ({
        domid: d.domid,
        incarnation: d.r.incarnation,
        name: d.name,
        state: stateLetters(domainFlags(d)),
        vcpus: d.r.vcpus,
        cpuTimeUs: d.r.cpuTimeUs,
        totPages: d.r.totPages,
        maxPages: d.r.maxPages,
        outstandingPages: d.r.outstandingPages,
        podEntries: d.r.podEntryCount,
        podCache: d.r.podCount,
        poolPages: d.r.poolTotal,
        ioTablePages: d.r.iommuTables,
        iommu: !d.has('iommu') ? 'off' : d.has('hapPtShare') ? 'shared' : 'separate',
        devices: host.config.devices.filter((_, i) => host.iommu.ownerOf(i) === d.domid).map(({ sbdf }) => sbdf),
        ...this.queues.figures(d.domid, d.r.incarnation),
      }));
  }

  private deviceFigures(): LiveDevice[] {
    const { host } = this.host;
    return host.config.devices.map(({ sbdf }, i) => ({
      sbdf,
      owner: host.iommu.ownerOf(i),
      ...(this.devices.get(sbdf) ?? { jobs: 0, completed: 0, faults: 0, busyUs: 0 }),
    }));
  }

  private jobs(jobs: readonly JobSpan[]): void {
    for (const { sbdf, completed, faults, durUs } of jobs) {
      const sums = this.devices.get(sbdf) ?? { jobs: 0, completed: 0, faults: 0, busyUs: 0 };
      sums.jobs++;
      sums.completed += completed;
      sums.faults += faults;
      sums.busyUs += durUs;
      this.devices.set(sbdf, sums);
    }
  }
}

function memoryMapOf(d: Domain): { addr: number; size: number; type: number }[] {
  const { memoryMap, memoryMapCount } = d.r;
  return Array.from({ length: memoryMapCount }, (_, i) => ({
    addr: memoryMap[i * 3] as number, // three cells an entry
    size: memoryMap[i * 3 + 1] as number,
    type: memoryMap[i * 3 + 2] as number,
  }));
}
