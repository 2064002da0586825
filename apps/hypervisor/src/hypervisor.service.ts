// The order in which the process comes up and goes down. The epoch key comes last and goes first: while it stands, calls are taken.
import { Inject, Injectable } from '@nestjs/common';
import { type EpochHolder, holdEpoch } from '#wire/epoch';
import { HYPERVISOR_CONFIG, type HypervisorConfig } from './config.ts';
import { ControlService } from './control.service.ts';
import { DomainWatchService } from './domain-watch.service.ts';
import { HostService } from './host.service.ts';
import { PanicService } from './panic.service.ts';
import { RedisService } from './redis.service.ts';
import { TelemetryService } from './telemetry.service.ts';
import { ThreadPoolService } from './thread-pool.service.ts';
import { VcpuQueuesService } from './vcpu-queues.service.ts';

/** Redis that does not answer must not keep a process that was told to end. */
const FAREWELL_MS = 500;

const within = (ms: number, work: Promise<unknown>): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    work.then(
      () => {
        clearTimeout(timer);
        resolve();
      },
      () => {
        clearTimeout(timer);
        resolve();
      },
    );
  });

@Injectable()
export class HypervisorService {
  private readonly config: HypervisorConfig;
  private readonly redis: RedisService;
  private readonly host: HostService;
  private readonly telemetry: TelemetryService;
  private readonly pool: ThreadPoolService;
  private readonly queues: VcpuQueuesService;
  private readonly watch: DomainWatchService;
  private readonly control: ControlService;
  private readonly panic: PanicService;
  private epoch: EpochHolder | null = null;
  private stopped: Promise<void> | null = null;

  constructor(
    @Inject(HYPERVISOR_CONFIG) config: HypervisorConfig,
    @Inject(RedisService) redis: RedisService,
    @Inject(HostService) host: HostService,
    @Inject(TelemetryService) telemetry: TelemetryService,
    @Inject(ThreadPoolService) pool: ThreadPoolService,
    @Inject(VcpuQueuesService) queues: VcpuQueuesService,
    @Inject(DomainWatchService) watch: DomainWatchService,
    @Inject(ControlService) control: ControlService,
    @Inject(PanicService) panic: PanicService,
  ) {
    this.config = config;
    this.redis = redis;
    this.host = host;
    this.telemetry = telemetry;
    this.pool = pool;
    this.queues = queues;
    this.watch = watch;
    this.control = control;
    this.panic = panic;
  }

  /** Settles when calls are taken. `onHalt`: dom0 shut the machine down. */
  async start(onHalt: () => void): Promise<void> {
    this.host.boot();
    this.telemetry.take(this.host.reports.take());
    await this.pool.start();
    await this.queues.start(() => this.watch.poll());
    this.watch.start(onHalt);
    await this.control.start();
    this.epoch = await holdEpoch({
      redis: this.redis.redis,
      hostId: this.config.hostId,
      epoch: this.queues.epoch,
      onLost: (holder) =>
        this.panic.panic('the host id', `host ${this.config.hostId} is another hypervisor's (${holder})`, ''),
    });
  }

  /** Ends everything; safe to call twice, and in the middle of a start. */
  stop(): Promise<void> {
    this.stopped ??= this.end();
    return this.stopped;
  }

  private async end(): Promise<void> {
    this.watch.stop();
    const goodbye = async (): Promise<void> => {
      await this.epoch?.stop();
      await Promise.all([this.control.close(), this.queues.close()]);
    };
    await Promise.all([within(FAREWELL_MS, goodbye()), this.pool.stop()]);
    this.telemetry.take(this.host.reports.take());
    await within(FAREWELL_MS, this.telemetry.close());
    this.redis.close();
  }
}
