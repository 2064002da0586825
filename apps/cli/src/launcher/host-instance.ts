// One running host: a private redis-server (or the one of REDIS_URL), hypervisor, toolstack, guest agents, dom0's kernel. Owns
// their start in order, ways to speak to each, and that after `stop` nothing of it is left: no process, socket, key or file.
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import type { GuestCommand } from '#model/guest/guest-spec';
import { removeKeys } from '#wire/acl';
import { connect, type RedisEndpoint } from '#wire/connection';
import { bootControl, type ControlClient, openControl, xlControl } from '#wire/control';
import { EXIT_HOST_GONE } from '#wire/environment';
import { type GuestReply, type GuestRequest, guestControl } from '#wire/guest-messages';
import { type HvReply, type HvRequest, hvControl } from '#wire/hv-messages';
import type { XlReply, XlRequest } from '#wire/messages';
import { hostKeyPattern } from '#wire/names';
import { writeRoster } from '#wire/process-roster';
import { type RedisServer, startRedisServer } from '#wire/redis-server';
import { CommandError, EXIT_UNKNOWN } from '../exit-codes.ts';
import { type AppName, appEntry } from '../repository.ts';
import { dom0Spec, type HostPlan } from './host-plan.ts';
import { registerHost, registryFile, unregisterHost } from './host-registry.ts';
import { type HostProcess, ProcessGroup, type ProcessSpec } from './process-group.ts';

const HOST_ID_NAME_MAX = 30;
const HV_TIMEOUT_MS = 30_000;
const BOOT_TIMEOUT_MS = 20_000;
const COMMAND_TIMEOUT_MS = 10_000;
/** How long a verb may wait for the toolstack to take it, and then for its end. */
const XL_TAKE_MS = 10_000;
export const XL_REPLY_MS = 120_000;
const AGENT_WAIT_MS = 10_000;
const FAREWELL_MS = 500;
/** A toolstack that ends so often within a minute will not do better the next time. */
const RESTARTS_MAX = 5;
const RESTARTS_WITHIN_MS = 60_000;

type ReplyOf<O extends HvRequest['op']> = Extract<HvReply, { op: O }>;

/** The host cannot go on: a process that it needs has ended. */
export class HostGone extends CommandError {
  constructor(why: string) {
    super(why, 'start it again; the logs of its processes tell more (`--logs DIR` keeps them)', EXIT_UNKNOWN);
  }
}

/** Asked about something that is not there (any more). */
export class HostRefused extends Error {
  override readonly name = 'HostRefused';
}

export interface DashboardOptions {
  /** 0: any free one. */
  readonly port: number;
  /** Address; by default loopback. */
  readonly bind?: string;
  /** What changing the host needs. */
  readonly token: string;
}

export interface HostInstanceOptions {
  readonly plan: HostPlan;
  /** Where the processes log and the hypervisor writes its console and history. */
  readonly logDir: string;
  readonly onPhase?: (text: string) => void;
}

const newHostId = (name: string): string =>
  `${
    name
      .replace(/[^A-Za-z0-9-]+/g, '-')
      .replace(/^-+/, '')
      .slice(0, HOST_ID_NAME_MAX) || 'host'
  }-${process.pid}-${randomBytes(3).toString('hex')}`;

function environmentOf(hostId: string, endpoint: RedisEndpoint): Record<string, string> {
  return {
    HOSTLOOM_HOST_ID: hostId,
    HOSTLOOM_REDIS: 'path' in endpoint ? endpoint.path : endpoint.url,
    ...(endpoint.username ? { HOSTLOOM_REDIS_USERNAME: endpoint.username } : {}),
    ...(endpoint.password ? { HOSTLOOM_REDIS_PASSWORD: endpoint.password } : {}),
  };
}

export class HostInstance {
  readonly hostId: string;
  readonly plan: HostPlan;
  readonly logDir: string;
  readonly #directory: string;
  readonly #group: ProcessGroup;
  readonly #onPhase: (text: string) => void;
  #redisServer: RedisServer | null = null;
  #redis: Redis | null = null;
  #environment: Record<string, string> = {};
  #hypervisor: HostProcess | null = null;
  #toolstack: HostProcess | null = null;
  /** Who is told that a toolstack that died was started anew; null: its death is the host's end. */
  #onRestart: ((text: string) => void) | null = null;
  readonly #restarts: number[] = [];
  #agentCount = 0;
  /** How often a process of a name was started. */
  readonly #starts = new Map<string, number>();
  #hv: ControlClient<HvRequest, HvReply> | null = null;
  #xl: ControlClient<XlRequest, XlReply> | null = null;
  readonly #commands = new Map<number, Promise<ControlClient<GuestRequest, GuestReply>>>();
  readonly #gone = Promise.withResolvers<HostGone>();
  #isGone = false;
  #stopping: Promise<void> | null = null;
  #stopped: Promise<void> | null = null;

  private constructor({ plan, logDir, onPhase = () => {} }: HostInstanceOptions) {
    this.plan = plan;
    this.logDir = logDir;
    this.hostId = newHostId(plan.name);
    this.#onPhase = onPhase;
    this.#directory = mkdtempSync(join(tmpdir(), 'hostloom-host-'));
    this.#group = new ProcessGroup([this.#directory, registryFile(this.hostId)]);
  }

  /** Settles when dom0's kernel runs and verbs are taken. On failure, or abort, nothing is left. */
  static async start(options: HostInstanceOptions, signal: AbortSignal): Promise<HostInstance> {
    const instance = new HostInstance(options);
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    aborted.catch(() => {});
    try {
      signal.throwIfAborted();
      const gone = instance.gone.then((reason) => Promise.reject(reason));
      await Promise.race([instance.#start(), aborted, gone]);
      return instance;
    } catch (error) {
      await instance.stop();
      throw error;
    }
  }

  /** Settles, with why, when the host cannot go on. Never while it is well, nor by `stop` or a kill that was asked for. */
  get gone(): Promise<HostGone> {
    return this.#gone.promise;
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  /** An administrator's connection. */
  get redis(): Redis {
    if (!this.#redis) throw new Error('the host is not started');
    return this.#redis;
  }

  /** One xl verb. A verb that fails is a reply too; rejects when the outcome is unknown. */
  xl(verb: string, args: readonly string[], replyMs = XL_REPLY_MS): Promise<XlReply> {
    if (!this.#xl) throw new Error('the host is not started');
    return this.#orGone(this.#xl.request({ verb, args: [...args] }, XL_TAKE_MS, replyMs));
  }

  async hv<R extends HvRequest>(request: R): Promise<ReplyOf<R['op']>> {
    if (!this.#hv) throw new Error('the host is not started');
    const reply = await this.#orGone(this.#hv.request(request, HV_TIMEOUT_MS));
    if (reply.op === 'refused') throw new HostRefused(reply.why);
    return reply as ReplyOf<R['op']>; // an answer has the operation of its question
  }

  /** Hands a guest's kernel a command. */
  async command(domid: number, command: GuestCommand): Promise<void> {
    const client = await this.#commandsTo(domid);
    await this.#orGone(client.request({ op: 'command', command, await: null }, COMMAND_TIMEOUT_MS));
  }

  /** The way to a guest's supervisor is of no more use: the domain is gone. */
  forgetGuest(domid: number): void {
    const client = this.#commands.get(domid);
    this.#commands.delete(domid);
    void client?.then((open) => open.close()).catch(() => {});
  }

  /** SIGKILL, as a scenario asks for: no sign that something is wrong. A toolstack is started anew, as its service would be. */
  kill(what: 'hypervisor' | 'toolstack'): void {
    const toolstack = this.#toolstack;
    if (what === 'toolstack') {
      toolstack?.kill();
      void toolstack?.exited.then(() => this.#restartToolstack());
      return;
    }
    // Without a hypervisor the toolstack ends by itself, and is right to.
    toolstack?.expectEnd();
    this.#hypervisor?.kill();
  }

  /** From now on a toolstack that dies is replaced, and `say` is told. */
  superviseToolstack(say: (text: string) => void): void {
    this.#onRestart = say;
  }

  /**
   * Starts the dashboard. Settles with the address of its page, once it serves; rejects with what it said. The host does not depend
   * on it: one that dies is started anew at the same address, unless it dies again and again.
   */
  async startDashboard({ port, bind, token }: DashboardOptions): Promise<string> {
    const env = {
      HOSTLOOM_DASHBOARD_PORT: String(port),
      ...(bind === undefined ? {} : { HOSTLOOM_DASHBOARD_BIND: bind }),
      HOSTLOOM_TOKEN: token,
    };
    const dashboard = this.#spawn('dashboard', env);
    await dashboard.ready;
    const url = /listens at (http:\/\/\S+)/.exec(dashboard.lastWords)?.[1];
    if (url === undefined) throw new Error(`the dashboard does not say where it listens: ${dashboard.lastWords}`);
    void dashboard.exited.then(() =>
      this.#restartDashboard({ port: Number(new URL(url).port), token, ...(bind === undefined ? {} : { bind }) }),
    );
    return url;
  }

  #restartDashboard(options: DashboardOptions): void {
    if (this.#stopping !== null || (this.#starts.get('dashboard') ?? 0) > RESTARTS_MAX) return;
    this.startDashboard(options).catch((error: Error) => this.#onRestart?.(`the dashboard ended: ${error.message}`));
  }

  get hypervisorPid(): number {
    return this.#hypervisor?.pid ?? 0;
  }

  /** Ends the processes, Redis excepted: what they said last can still be read. Safe to call twice. */
  stopProcesses(): Promise<void> {
    this.#stopping ??= this.#endProcesses();
    return this.#stopping;
  }

  /** Ends everything; safe to call twice, and in the middle of a start. */
  stop(): Promise<void> {
    this.#stopped ??= this.stopProcesses().then(() => this.#endRedis());
    return this.#stopped;
  }

  async #start(): Promise<void> {
    const endpoint = await this.#startRedis();
    this.#environment = environmentOf(this.hostId, endpoint);
    this.#redis = connect(endpoint);
    registerHost({
      hostId: this.hostId,
      pid: process.pid,
      redis: endpoint,
      label: this.plan.label,
      startedAt: new Date().toISOString(),
    });
    this.#onPhase('starting the processes');
    // Each waits for what it needs from the others, so they start side by side.
    this.#hypervisor = this.#startHypervisor();
    this.#toolstack = this.#startToolstack();
    const [first, ...others] = this.plan.agents;
    const dom0Agent = this.#startAgent(first?.capacity ?? 1);
    const redis = this.#redis;
    const [hv, xl] = await Promise.all([
      openControl(redis, this.hostId, hvControl),
      openControl(redis, this.hostId, xlControl),
      this.#hypervisor.ready,
      dom0Agent.ready,
    ]);
    this.#hv = hv;
    this.#xl = xl;
    this.#onPhase("starting dom0's kernel");
    await this.#placeDom0();
    // Not before: dom0 must not be taken by one that is to be killed.
    const agents = others.map(({ capacity }) => this.#startAgent(capacity));
    await Promise.all([this.#toolstack.ready, ...agents.map((agent) => agent.ready)]);
  }

  async #startRedis(): Promise<RedisEndpoint> {
    const url = process.env.REDIS_URL;
    if (url) return { url };
    this.#onPhase('starting redis-server');
    this.#redisServer = await startRedisServer();
    void this.#redisServer.exited.then(() => this.#lost('redis-server ended'));
    return this.#redisServer.endpoint;
  }

  #startHypervisor(): HostProcess {
    const { config, faults, dom0, record } = this.plan;
    const file = join(this.#directory, 'host.json');
    // The toolstack's vCPU comes on top of the kernel's.
    const hypervisorDom0 = { memoryMb: dom0.memoryMb, vcpus: dom0.vcpus + 1 };
    writeFileSync(file, JSON.stringify({ config, faultPlan: faults, dom0: hypervisorDom0, record }));
    mkdirSync(this.logDir, { recursive: true });
    return this.#spawn('hypervisor', { HOSTLOOM_CONFIG: file, HOSTLOOM_RUN_DIR: this.logDir });
  }

  #startToolstack(): HostProcess {
    const { policies, timeScale } = this.plan;
    const knobs = {
      libxlPodCheck: policies['libxl-pod-check'],
      rdmParser: policies['rdm-parser'],
      squeezed: policies.squeezed === 'on',
      timeScale,
      agentWaitMs: AGENT_WAIT_MS,
    };
    return this.#spawn('toolstack', {
      HOSTLOOM_CONFIG: join(this.#directory, 'host.json'),
      HOSTLOOM_TOOLSTACK: JSON.stringify(knobs),
    });
  }

  /** Domains live on without it; the new one finds their records in xenstore. */
  #restartToolstack(why?: string): void {
    if (this.#stopping !== null || this.#hypervisor?.ended) return;
    const now = Date.now();
    this.#restarts.push(now);
    const recent = this.#restarts.filter((at) => now - at < RESTARTS_WITHIN_MS);
    if (recent.length > RESTARTS_MAX) {
      this.#lost(`the toolstack ended ${recent.length} times within a minute`);
      return;
    }
    this.#toolstack = this.#startToolstack();
    const say = this.#onRestart;
    if (!why || !say) return;
    const { ready } = this.#toolstack;
    ready.then(
      () => say(`${why}; it was started anew and knows its domains again`),
      () => {}, // its end is noticed by itself
    );
  }

  /** One that dies is replaced, as a service manager would; dom0's is the end of the host, as Xen reboots when dom0 crashes. */
  #startAgent(capacity: number): HostProcess {
    const isDom0 = this.#agentCount === 0;
    const agent = this.#spawn(
      'guest-agent',
      { HOSTLOOM_AGENT_CAPACITY: String(capacity) },
      `guest-agent-${++this.#agentCount}`,
    );
    void agent.exited.then(() => {
      if (this.#stopping !== null) return;
      if (isDom0) this.#lost('dom0 is gone: the process of its kernel and agent ended');
      else this.#startAgent(capacity);
    });
    return agent;
  }

  #spawn(app: AppName, env: Record<string, string>, name: string = app): HostProcess {
    const spec: ProcessSpec = {
      name,
      entry: appEntry(app),
      // The token is the dashboard's alone; what an operator set for it reaches no guest's process.
      env: { ...this.#environment, HOSTLOOM_TOKEN: '', ...env },
      logFile: join(this.logDir, `${name}.log`),
    };
    mkdirSync(this.logDir, { recursive: true });
    const child = this.#group.start(spec);
    this.#enroll(child);
    if (app === 'hypervisor' || app === 'toolstack')
      void child.exited.then(({ code, signal, unexpected }) => {
        if (!unexpected) return;
        const how = signal ? `was ended by ${signal}` : `ended with status ${code}`;
        if (app === 'toolstack' && this.#onRestart && code !== EXIT_HOST_GONE) {
          this.#restartToolstack(`the toolstack ${how}`);
          return;
        }
        this.#lost(
          `the ${app} ${how}${child.lastWords ? `: ${child.lastWords.split('\n').slice(-3).join(' / ')}` : ''}`,
        );
      });
    return child;
  }

  /** The list of processes that the dashboard shows. */
  #enroll(child: HostProcess): void {
    const { name, pid } = child;
    const starts = (this.#starts.get(name) ?? 0) + 1;
    this.#starts.set(name, starts);
    const entry = { pid, startedAtMs: Date.now(), starts };
    if (this.#redis) writeRoster(this.#redis, this.hostId, name, { ...entry, ended: null });
    void child.exited.then(({ code, signal }) => {
      if (this.#stopping !== null || !this.#redis) return;
      writeRoster(this.#redis, this.hostId, name, { ...entry, ended: signal ? `by ${signal}` : `status ${code}` });
    });
  }

  async #placeDom0(): Promise<void> {
    const { dom0, epoch } = await this.hv({ op: 'info' });
    const { credentials, incarnation, faults } = await this.hv({ op: 'grant', domid: dom0.domid });
    const boot = await openControl(this.redis, this.hostId, bootControl);
    try {
      // Through JSON: a specification is plain data, its readonly arrays are not zod's.
      const guest = JSON.parse(JSON.stringify(dom0Spec(this.plan, dom0.domid)));
      await boot.request({ domid: dom0.domid, incarnation, epoch, credentials, guest, faults }, BOOT_TIMEOUT_MS);
    } finally {
      await boot.close();
    }
  }

  #commandsTo(domid: number): Promise<ControlClient<GuestRequest, GuestReply>> {
    let client = this.#commands.get(domid);
    if (!client) {
      client = openControl(this.redis, this.hostId, guestControl(domid));
      this.#commands.set(domid, client);
    }
    return client;
  }

  /** A host that is gone answers nothing: what waits for it is told at once. */
  #orGone<T>(request: Promise<T>): Promise<T> {
    request.catch(() => {}); // it may fail after nobody waits for it any more
    return Promise.race([request, this.#gone.promise.then((reason) => Promise.reject(reason))]);
  }

  #lost(why: string): void {
    if (this.#stopping !== null) return;
    this.#isGone = true;
    this.#gone.resolve(new HostGone(why));
  }

  async #endProcesses(): Promise<void> {
    unregisterHost(this.hostId);
    const commands = await Promise.allSettled(this.#commands.values());
    const clients = commands.flatMap((settled) => (settled.status === 'fulfilled' ? [settled.value] : []));
    // Redis may be gone, and closing waits for it: what hangs is cut off with the connection.
    const closing = Promise.allSettled([this.#hv, this.#xl, ...clients].map((client) => client?.close()));
    await Promise.race([closing, new Promise((resolve) => setTimeout(resolve, FAREWELL_MS).unref())]);
    await this.#group.stop(this.#hypervisor);
  }

  async #endRedis(): Promise<void> {
    await this.#removeKeys();
    this.#redis?.disconnect();
    await this.#redisServer?.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** A server that is not ours keeps nothing of this host. */
  async #removeKeys(): Promise<void> {
    if (this.#redisServer || this.#redis?.status !== 'ready') return;
    await removeKeys(this.#redis, hostKeyPattern(this.hostId)).catch(() => {}); // best effort: it may be going down too
  }
}
