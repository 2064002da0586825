// Notices that domains came, went, or shut down, whoever made them do so, and says it as Xen does: by xenstore's special watches
// @introduceDomain and @releaseDomain. Polling two words per domain costs nothing and misses nothing that lasts.
import { Inject, Injectable } from '@nestjs/common';
import { shutdownReason } from '#model/hypercall/calls';
import { DomainXenstore } from '#wire/xenstore';
import { HYPERVISOR_CONFIG, type HypervisorConfig } from './config.ts';
import { HostService } from './host.service.ts';
import { PanicService } from './panic.service.ts';
import { RedisService } from './redis.service.ts';
import { ThreadPoolService } from './thread-pool.service.ts';
import { VcpuQueuesService } from './vcpu-queues.service.ts';

const POLL_MS = 20;
/** Waiters of a device look again once in so many polls, whatever was heard of it. */
const RETRY_BLOCKED_EVERY = 10;

@Injectable()
export class DomainWatchService {
  private readonly host: HostService;
  private readonly pool: ThreadPoolService;
  private readonly queues: VcpuQueuesService;
  private readonly redis: RedisService;
  private readonly panic: PanicService;
  private readonly xenstore: DomainXenstore;
  private timer: NodeJS.Timeout | null = null;
  private known = new Map<string, string>();
  private polls = 0;
  private events = 0;
  private onHalt: () => void = () => {};

  constructor(
    @Inject(HYPERVISOR_CONFIG) config: HypervisorConfig,
    @Inject(HostService) host: HostService,
    @Inject(ThreadPoolService) pool: ThreadPoolService,
    @Inject(VcpuQueuesService) queues: VcpuQueuesService,
    @Inject(RedisService) redis: RedisService,
    @Inject(PanicService) panic: PanicService,
  ) {
    this.host = host;
    this.pool = pool;
    this.queues = queues;
    this.redis = redis;
    this.panic = panic;
    this.xenstore = new DomainXenstore({ redis: redis.redis, hostId: config.hostId, domid: 0, writer: 'toolstack' });
  }

  /** `onHalt`: dom0 shut the machine down. */
  start(onHalt: () => void): void {
    this.onHalt = onHalt;
    this.known = this.look();
    this.timer = setInterval(() => this.poll(), POLL_MS);
  }

  stop(): void {
    if (this.timer) clearInterval(this.timer);
    this.timer = null;
    this.xenstore.close();
  }

  /** Looks now: something is known to have changed. */
  poll(): void {
    if (++this.polls % RETRY_BLOCKED_EVERY === 0) this.pool.runQueue.retryBlocked();
    const now = this.look();
    let introduced = false;
    let released = false;
    for (const [key, how] of now) {
      const before = this.known.get(key);
      if (before === undefined) introduced = true;
      else if (before !== how) released = true;
    }
    for (const key of this.known.keys()) if (!now.has(key)) released = true;
    if (!introduced && !released) return;
    this.known = now;
    this.queues.reconcile().catch((error: Error) => this.redis.say(error));
    this.pool.runQueue.recheck();
    if (this.host.host.dom0.crashed) this.hardwareDomainDown(this.host.host.dom0.r.shutdown - 1);
    if (introduced) this.fire('@introduceDomain');
    if (released) this.fire('@releaseDomain');
  }

  /** Each domain: does it run, has it shut down, is it dying. */
  private look(): Map<string, string> {
    const domains = new Map<string, string>();
    for (const d of this.host.host.allDomains()) {
      domains.set(`${d.r.domid}/${d.r.incarnation}`, `${d.dying ? 'dying' : 'alive'} ${d.r.shutdown}`);
    }
    return domains;
  }

  /** The host ends with dom0, as Xen's hwdom_shutdown. */
  private hardwareDomainDown(reason: number): void {
    if (reason === shutdownReason.crash || reason === shutdownReason.watchdog) {
      this.panic.panic('CPU 0', 'Hardware Dom0 crashed: rebooting machine in 5 seconds.', '');
      return;
    }
    const halted = reason === shutdownReason.poweroff;
    this.host.reports.printk(
      halted ? 'Hardware Dom0 halted: halting machine' : 'Hardware Dom0 shutdown: rebooting machine',
    );
    this.onHalt();
  }

  private fire(path: string): void {
    this.xenstore.write(path, String(++this.events)).catch((error: Error) => this.redis.say(error));
  }
}
