// Answers the privileged questions of the launcher and the toolstack about this process: the `hv` queue. It looks; only `grant`
// hands something out. A look at tables takes no lock, or is taken at a safepoint.
import { Inject, Injectable } from '@nestjs/common';
import type { Domain } from '#model/domain/domain';
import { type ControlServer, serveControl } from '#wire/control';
import { faultsOf } from '#wire/fault-seam';
import { type HvReply, type HvRequest, hvControl } from '#wire/hv-messages';
import { HYPERVISOR_CONFIG, type HypervisorConfig } from './config.ts';
import { memoryMapOf, peek } from './domain-view.ts';
import { HostService } from './host.service.ts';
import { LiveViewService } from './live/live-view.service.ts';
import { frameLook, machineOf } from './live/looks.ts';
import { whyOf } from './live/why.ts';
import { RedisService } from './redis.service.ts';
import { SafepointService } from './safepoint.service.ts';
import { TelemetryService } from './telemetry.service.ts';
import { ThreadPoolService } from './thread-pool.service.ts';
import { VcpuQueuesService } from './vcpu-queues.service.ts';

/** Looks that wait for nothing must not queue behind a safepoint. */
const CONCURRENCY = 4;
/** Of what was lately asked of a gfn. */
const CHANGES_TOLD = 5;

@Injectable()
export class ControlService {
  private readonly config: HypervisorConfig;
  private readonly redis: RedisService;
  private readonly host: HostService;
  private readonly pool: ThreadPoolService;
  private readonly safepoint: SafepointService;
  private readonly telemetry: TelemetryService;
  private readonly queues: VcpuQueuesService;
  private readonly live: LiveViewService;
  private readonly started = performance.now();
  private server: ControlServer | null = null;

  constructor(
    @Inject(HYPERVISOR_CONFIG) config: HypervisorConfig,
    @Inject(RedisService) redis: RedisService,
    @Inject(HostService) host: HostService,
    @Inject(ThreadPoolService) pool: ThreadPoolService,
    @Inject(SafepointService) safepoint: SafepointService,
    @Inject(TelemetryService) telemetry: TelemetryService,
    @Inject(VcpuQueuesService) queues: VcpuQueuesService,
    @Inject(LiveViewService) live: LiveViewService,
  ) {
    this.config = config;
    this.redis = redis;
    this.host = host;
    this.pool = pool;
    this.safepoint = safepoint;
    this.telemetry = telemetry;
    this.queues = queues;
    this.live = live;
  }

  async start(): Promise<void> {
    this.server = await serveControl({
      connection: this.redis.redis,
      hostId: this.config.hostId,
      control: hvControl,
      concurrency: CONCURRENCY,
      handler: (request) => this.answer(request),
      onError: (error) => this.redis.say(error),
    });
  }

  async close(): Promise<void> {
    await this.live.close();
    await this.server?.close();
  }

  async answer(request: HvRequest): Promise<HvReply> {
    const { host } = this.host;
    switch (request.op) {
      case 'info':
        return this.info();
      case 'lockprof':
        return { op: 'lockprof', elapsedNs: (performance.now() - this.started) * 1e6, rows: host.lockProfile() };
      case 'counters':
        return this.counters();
      case 'check-invariants': {
        const { checked, violations, ms } = await this.safepoint.checkInvariants();
        return { op: 'check-invariants', checked: [...checked], violations: [...violations], ms };
      }
      case 'peek':
        return this.about(request.domid, (d) => ({
          op: 'peek',
          peek: peek(host, d, request.gfn, request.sbdf ?? null),
        }));
      case 'memory-map':
        return this.safepoint.at(() =>
          this.about(request.domid, (d) => ({ op: 'memory-map', ...memoryMapOf(host, d, request.maxRuns) })),
        );
      case 'grant':
        return this.grant(request.domid);
      case 'console':
        return this.about(request.domid, (d) => this.firmwareLines(d, request.lines));
      case 'machine':
        return { op: 'machine', machine: machineOf(host) };
      case 'watch':
        this.live.watch(request.leaseMs, request.wants);
        if (request.fresh) this.live.refresh();
        return { op: 'watch' };
      case 'why':
        return this.why(request.sbdf, request.dfn);
      case 'frame':
        return this.frame(request.mfn);
      case 'changes':
        return { op: 'changes', changes: this.telemetry.recall.of(request.domid, request.gfn, CHANGES_TOLD) };
      default:
        return request satisfies never;
    }
  }

  private why(sbdf: number, dfn: number): HvReply {
    const why = whyOf(this.host.host, sbdf, dfn);
    if (!why) return { op: 'refused', why: `there is no device ${sbdf.toString(16)}` };
    const changes = why.domid < 0 ? [] : this.telemetry.recall.of(why.domid, dfn, CHANGES_TOLD);
    return { op: 'why', why: { ...why, changes } };
  }

  private frame(mfn: number): HvReply {
    const look = frameLook(this.host.host, mfn);
    if (!look) return { op: 'refused', why: `the host has no frame ${mfn.toString(16)}` };
    const known = look.owner >= 0 && look.gfn >= 0;
    const changes = known ? this.telemetry.recall.of(look.owner, look.gfn, CHANGES_TOLD) : [];
    return { op: 'frame', frame: { ...look, changes } };
  }

  private about(domid: number, answer: (d: Domain) => HvReply): HvReply {
    const d = this.host.host.domain(domid);
    return d ? answer(d) : { op: 'refused', why: `there is no domain ${domid}` };
  }

  private firmwareLines(d: Domain, lines: readonly string[]): HvReply {
    const { host, reports } = this.host;
    for (const line of lines) host.platform.printk(`(d${d.r.domid}) ${line.replace(/[^\x20-\x7e]/g, '?')}`);
    this.telemetry.take(reports.take());
    return { op: 'console' };
  }

  private info(): HvReply {
    const { domid, incarnation, vcpus } = this.host.host.dom0.r;
    const { config } = this.host.host;
    return {
      op: 'info',
      epoch: this.queues.epoch,
      pid: process.pid,
      host: config.name,
      dom0: { domid, incarnation, vcpus },
    };
  }

  private counters(): HvReply {
    return {
      op: 'counters',
      counters: this.host.host.counters.snapshot(),
      wire: { ...this.queues.counters() },
      violations: Object.fromEntries(this.telemetry.violations),
      pcpuUs: [...this.pool.runQueue.pcpuUs],
    };
  }

  private grant(domid: number): HvReply {
    const queues = this.queues.domain(domid);
    if (!queues) return { op: 'refused', why: `domain ${domid} does not exist or is dying` };
    const { incarnation, vcpus, credentials } = queues;
    const faults = [...faultsOf(this.config.faultPlan, 'guest')];
    return { op: 'grant', incarnation, vcpus, epoch: this.queues.epoch, credentials: credentials.guest, faults };
  }
}
