// The queues of all vCPUs: opened when a domain is created, closed when it dies, with the domain's rights in Redis. A call comes
// in here, goes through the run queue, and its answers go back. Who called is the queue.
import { setTimeout as sleep } from 'node:timers/promises';
import { Inject, Injectable } from '@nestjs/common';
import type { Redis } from 'ioredis';
import type { Answer, Call } from '#model/hypercall/calls';
import { errno } from '#model/hypercall/errno';
import {
  connectWorkers,
  type DomainCredentials,
  grantDomain,
  prepareGrants,
  removeDomainKeys,
  revokeDomain,
} from '#wire/acl';
import type { Answers } from '#wire/answer-codec';
import { DomainBudget } from '#wire/domain-budget';
import { newEpoch } from '#wire/epoch';
import type { LiveDomain } from '#wire/live';
import type { Envelope } from '#wire/messages';
import { startVcpuWorker, type VcpuCounters, type VcpuIdentity, type VcpuWorker } from '#wire/vcpu-worker';
import { HYPERVISOR_CONFIG, type HypervisorConfig } from './config.ts';
import { ConsoleService } from './console.service.ts';
import { HostService } from './host.service.ts';
import { Durations } from './live/durations.ts';
import { RedisService } from './redis.service.ts';
import { DomainGone } from './run-queue.ts';
import { TelemetryService } from './telemetry.service.ts';
import { ThreadPoolService } from './thread-pool.service.ts';

/** Operations after which domains, or who may run, may have changed. */
const CHANGES_DOMAINS: ReadonlySet<string> = new Set([
  'createdomain',
  'destroydomain',
  'pausedomain',
  'unpausedomain',
  'shutdown',
  'remote_shutdown',
  // These pause their domain for a while.
  'shadow_op',
  'track_dirty_vram',
]);

/** A dead domain's calls are refused within this time, or not at all. */
const FAREWELL_MS = 300;

interface DomainQueues {
  readonly domid: number;
  readonly incarnation: number;
  readonly vcpus: number;
  readonly credentials: DomainCredentials;
  readonly connection: Redis;
  readonly workers: readonly VcpuWorker[];
}

const noCounters = (): VcpuCounters => ({ jobs: 0, calls: 0, malformed: 0, refused: 0, redelivered: 0, errors: 0 });

@Injectable()
export class VcpuQueuesService {
  readonly epoch = newEpoch();
  private readonly config: HypervisorConfig;
  private readonly redis: RedisService;
  private readonly host: HostService;
  private readonly pool: ThreadPoolService;
  private readonly console: ConsoleService;
  private readonly telemetry: TelemetryService;
  private readonly open = new Map<string, DomainQueues>();
  /** Domains whose queues are being closed, by number. */
  private readonly closing = new Map<number, Promise<void>>();
  private readonly ended = noCounters();
  private reconciling: Promise<void> = Promise.resolve();
  private onChange: () => void = () => {};
  private timed = false;
  /** How long multicalls took from their arrival to their answer since somebody asked, by domain. */
  private readonly times = new Map<string, Durations>();

  constructor(
    @Inject(HYPERVISOR_CONFIG) config: HypervisorConfig,
    @Inject(RedisService) redis: RedisService,
    @Inject(HostService) host: HostService,
    @Inject(ThreadPoolService) pool: ThreadPoolService,
    @Inject(ConsoleService) console: ConsoleService,
    @Inject(TelemetryService) telemetry: TelemetryService,
  ) {
    this.config = config;
    this.redis = redis;
    this.host = host;
    this.pool = pool;
    this.console = console;
    this.telemetry = telemetry;
  }

  /** Queues of dom0. */
  async start(onChange: () => void): Promise<void> {
    this.onChange = onChange;
    await prepareGrants(this.redis.redis);
    await this.reconcile();
  }

  async close(): Promise<void> {
    await this.reconciling;
    await Promise.all(this.closing.values());
    await Promise.all([...this.open.values()].flatMap(({ workers }) => workers.map((worker) => worker.close())));
    for (const { connection } of this.open.values()) connection.disconnect();
  }

  /** The queues and rights of a domain that exists, or null. */
  domain(domid: number): Pick<DomainQueues, 'incarnation' | 'vcpus' | 'credentials'> | null {
    const d = this.host.host.domain(domid);
    return (d && this.open.get(`${domid}/${d.r.incarnation}`)) ?? null;
  }

  /** Whether to time multicalls: somebody looks. */
  timing(on: boolean): void {
    this.timed = on;
    this.times.clear();
  }

  /** A domain's multicalls since the start; their times since the last question. */
  figures(domid: number, incarnation: number): Pick<LiveDomain, 'jobs' | 'calls' | 'serviceUs'> {
    const key = `${domid}/${incarnation}`;
    const sum = noCounters();
    for (const { counters } of this.open.get(key)?.workers ?? []) addCounters(sum, counters);
    const times = this.times.get(key);
    const serviceUs = { n: times?.n ?? 0, p50: times?.percentile(0.5) ?? 0, p99: times?.percentile(0.99) ?? 0 };
    times?.clear();
    return { jobs: sum.jobs, calls: sum.calls, serviceUs };
  }

  private timeOf({ domid, incarnation }: VcpuIdentity, us: number): void {
    const key = `${domid}/${incarnation}`;
    let times = this.times.get(key);
    if (!times) {
      times = new Durations();
      this.times.set(key, times);
    }
    times.add(us);
  }

  /** Of all vCPU queues since the start. */
  counters(): VcpuCounters {
    const sum = { ...this.ended };
    for (const { workers } of this.open.values()) for (const { counters } of workers) addCounters(sum, counters);
    return sum;
  }

  /** Opens queues of new domains and closes those of dead ones. */
  reconcile(): Promise<void> {
    const turn = this.reconciling.then(() => this.openAndClose());
    // One failure is the caller's to hear of; it must not be every later caller's.
    this.reconciling = turn.catch(() => {});
    return turn;
  }

  private async openAndClose(): Promise<void> {
    const alive = new Map<string, { domid: number; incarnation: number; vcpus: number }>();
    for (const d of this.host.host.allDomains()) {
      const { domid, incarnation, vcpus } = d.r;
      if (!d.dying && vcpus > 0) alive.set(`${domid}/${incarnation}`, { domid, incarnation, vcpus });
    }
    // Closing takes its time, and nobody waits for it but a new domain of the same number.
    for (const [key, queues] of this.open) if (!alive.has(key)) this.closeLater(key, queues);
    for (const [key, d] of alive) {
      if (this.open.has(key)) continue;
      await this.closing.get(d.domid);
      this.open.set(key, await this.openDomain(d));
    }
  }

  private closeLater(key: string, queues: DomainQueues): void {
    const { domid } = queues;
    const closed = this.closeDomain(key, queues)
      .catch((error: Error) => this.redis.say(error))
      .finally(() => {
        if (this.closing.get(domid) === closed) this.closing.delete(domid);
      });
    this.closing.set(domid, closed);
  }

  private async openDomain(d: { domid: number; incarnation: number; vcpus: number }): Promise<DomainQueues> {
    const { hostId, redis: endpoint } = this.config;
    const onError = (error: Error): void => this.redis.say(error);
    // What an earlier domain of that number left behind is not this one's.
    await removeDomainKeys(this.redis.redis, hostId, d.domid);
    const credentials = await grantDomain(this.redis.redis, hostId, d.domid, d.incarnation);
    const connection = connectWorkers(endpoint, credentials.worker, onError);
    const budget = new DomainBudget();
    const workers = await Promise.all(
      Array.from({ length: d.vcpus }, (_, vcpu) =>
        startVcpuWorker({
          connection,
          hostId,
          domid: d.domid,
          vcpu,
          incarnation: d.incarnation,
          epoch: this.epoch,
          budget,
          handler: (envelope, identity) => this.answer(envelope, identity),
          onError: (error) => {
            if (!(error instanceof DomainGone)) onError(error);
          },
        }),
      ),
    );
    return { ...d, credentials, connection, workers };
  }

  private async closeDomain(key: string, { domid, incarnation, workers, connection }: DomainQueues): Promise<void> {
    this.open.delete(key);
    // What its vCPUs still wait for is refused now; let them hear it before their rights go.
    this.pool.runQueue.recheck();
    const finished = Promise.all(workers.map((worker) => worker.pause()));
    await Promise.race([finished, sleep(FAREWELL_MS, undefined, { ref: false })]);
    for (const { counters } of workers) addCounters(this.ended, counters);
    await Promise.all(workers.map((worker) => worker.close()));
    connection.disconnect();
    await revokeDomain(this.redis.redis, this.config.hostId, domid, incarnation);
    await removeDomainKeys(this.redis.redis, this.config.hostId, domid);
  }

  /** One multicall of a vCPU. */
  private async answer({ seq, calls }: Envelope, who: VcpuIdentity): Promise<Answers> {
    const began = this.timed ? performance.now() : 0;
    const answers = calls.some(({ op }) => op === 'readconsole')
      ? await this.withConsole(who, calls)
      : await this.pool.runQueue.submit(who, calls);
    if (calls.some(({ op }) => CHANGES_DOMAINS.has(op))) {
      this.pool.runQueue.recheck();
      // A new domain's queues exist before its creator hears of it.
      if (calls.some(({ op }) => op === 'createdomain')) await this.reconcile();
      this.onChange();
    }
    this.telemetry.history(who, seq, calls, answers);
    if (began > 0) this.timeOf(who, (performance.now() - began) * 1000);
    return answers;
  }

  /** The console is this process's, not the model's: its calls are answered here, in their places. */
  private async withConsole(who: VcpuIdentity, calls: readonly Call[]): Promise<Answers> {
    const answers: Answer[] = [];
    let rest = calls;
    while (rest.length > 0) {
      const next = rest.findIndex(({ op }) => op === 'readconsole');
      const before = next < 0 ? rest : rest.slice(0, next);
      if (before.length > 0) answers.push(...(await this.pool.runQueue.submit(who, before)));
      const read = next < 0 ? undefined : rest[next];
      if (read?.op === 'readconsole') answers.push(this.readConsole(who, read.from));
      rest = next < 0 ? [] : rest.slice(next + 1);
    }
    return answers;
  }

  private readConsole({ domid }: VcpuIdentity, from: number): Answer {
    if (domid !== this.host.host.dom0.domid) return { rc: -errno.EPERM };
    return { rc: 0, ...this.console.read(from) };
  }
}

function addCounters(sum: VcpuCounters, more: Readonly<VcpuCounters>): void {
  sum.jobs += more.jobs;
  sum.calls += more.calls;
  sum.malformed += more.malformed;
  sum.refused += more.refused;
  sum.redelivered += more.redelivered;
  sum.errors += more.errors;
}
