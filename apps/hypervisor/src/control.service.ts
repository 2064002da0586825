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
import { RedisService } from './redis.service.ts';
import { SafepointService } from './safepoint.service.ts';
import { TelemetryService } from './telemetry.service.ts';
import { ThreadPoolService } from './thread-pool.service.ts';
import { VcpuQueuesService } from './vcpu-queues.service.ts';

/** Looks that wait for nothing must not queue behind a safepoint. */
const CONCURRENCY = 4;

@Injectable()
export class ControlService {
  private readonly config: HypervisorConfig;
  private readonly redis: RedisService;
  private readonly host: HostService;
  private readonly pool: ThreadPoolService;
  private readonly safepoint: SafepointService;
  private readonly telemetry: TelemetryService;
  private readonly queues: VcpuQueuesService;
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
  ) {
    this.config = config;
    this.redis = redis;
    this.host = host;
    this.pool = pool;
    this.safepoint = safepoint;
    this.telemetry = telemetry;
    this.queues = queues;
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
      default:
        return request satisfies never;
    }
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
