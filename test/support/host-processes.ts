// A whole host for end-to-end tests: hypervisor, toolstack and guest agents as real processes on a private Redis, driven as the
// launcher drives them. `stop` ends everything.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { defaultBalloon, type GuestSpec } from '#model/guest/guest-spec';
import type { DomainInfo } from '#model/hypercall/calls';
import { bootControl, type ControlClient, openControl, xlControl } from '#wire/control';
import { decodeGuestNews, type GuestNews } from '#wire/guest-messages';
import type { XlReply, XlRequest } from '#wire/messages';
import { toolstackVcpu } from '#wire/names';
import { connect } from '#wire/redis-server';
import { readStream } from '#wire/streams';
import { DomainXenstore } from '#wire/xenstore';
import { encodeCreate, type KernelOptions } from '#wire/xl-create';
import { type HypervisorOptions, HypervisorProcess } from './hypervisor-process.ts';

const DIST = new URL('../../dist/bundle/apps/', import.meta.url).pathname;
const START_MS = 15_000;
const VERB_MS = 60_000;

export interface HostOptions extends HypervisorOptions {
  /** The toolstack's knobs. */
  readonly knobs?: Readonly<Record<string, unknown>>;
  /** Guest agents; default 1. */
  readonly agents?: number;
}

/** One child process and what it printed. */
class Child {
  readonly process: ChildProcess;
  readonly exited: Promise<number | string>;
  printed = '';
  readonly #name: string;

  constructor(name: string, env: NodeJS.ProcessEnv) {
    this.#name = name;
    const main = join(DIST, name, 'src/main.js');
    this.process = spawn(process.execPath, [main], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.process.stdout, this.process.stderr]) {
      stream?.on('data', (chunk) => {
        this.printed += chunk;
      });
    }
    this.exited = new Promise((resolve) => this.process.once('exit', (code, signal) => resolve(code ?? signal ?? '?')));
  }

  async up(): Promise<void> {
    let status: number | string | undefined;
    void this.exited.then((how) => {
      status = how;
    });
    for (const deadline = Date.now() + START_MS; !this.printed.includes(' is up'); await sleep(10)) {
      if (status !== undefined) throw new Error(`${this.#name} ended (${status}): ${this.printed}`);
      if (Date.now() > deadline) throw new Error(`${this.#name} is not up after ${START_MS} ms: ${this.printed}`);
    }
  }

  async stop(): Promise<number | string> {
    this.process.kill('SIGTERM');
    return this.exited;
  }
}

export class WholeHost {
  readonly hypervisor: HypervisorProcess;
  readonly redis: Redis;
  /** Everything the guests reported so far. */
  readonly news: GuestNews[] = [];
  readonly agents: Child[] = [];
  toolstack!: Child;
  readonly #env: NodeJS.ProcessEnv;
  readonly #reading = new AbortController();
  #xl!: ControlClient<XlRequest, XlReply>;

  private constructor(hypervisor: HypervisorProcess, knobs: Readonly<Record<string, unknown>>) {
    this.hypervisor = hypervisor;
    const { endpoint } = hypervisor.server;
    this.redis = connect(endpoint);
    this.#env = {
      ...process.env,
      HOSTLOOM_HOST_ID: hypervisor.hostId,
      HOSTLOOM_REDIS: endpoint.path,
      HOSTLOOM_REDIS_PASSWORD: endpoint.password ?? '',
      HOSTLOOM_CONFIG: join(hypervisor.runDir, 'run.json'),
      HOSTLOOM_TOOLSTACK: JSON.stringify({ timeScale: 10, agentWaitMs: 2000, ...knobs }),
    };
  }

  static async start({ knobs = {}, agents = 1, ...options }: HostOptions): Promise<WholeHost> {
    const host = new WholeHost(await HypervisorProcess.start(options), knobs);
    try {
      host.toolstack = new Child('toolstack', host.#env);
      for (let i = 0; i < agents; i++) host.addAgent();
      host.#xl = await openControl(host.redis, host.hypervisor.hostId, xlControl);
      void host.#collect();
      await Promise.all([host.toolstack.up(), ...host.agents.map((agent) => agent.up())]);
    } catch (error) {
      await host.stop();
      throw error;
    }
    return host;
  }

  /** SIGKILL, and another toolstack in its place. */
  async restartToolstack(): Promise<void> {
    this.toolstack.process.kill('SIGKILL');
    await this.toolstack.exited;
    this.toolstack = new Child('toolstack', this.#env);
    await this.toolstack.up();
  }

  addAgent(): Child {
    const agent = new Child('guest-agent', this.#env);
    this.agents.push(agent);
    return agent;
  }

  async stop(): Promise<{ toolstack: number | string; agents: (number | string)[] }> {
    this.#reading.abort();
    const agents = await Promise.all(this.agents.map((agent) => agent.stop()));
    const toolstack = await this.toolstack.stop();
    await this.#xl?.close();
    this.redis.disconnect();
    await this.hypervisor.stop();
    return { toolstack, agents };
  }

  /** An xl verb, as typed. */
  xl(verb: string, ...args: string[]): Promise<XlReply> {
    return this.#xl.request({ verb, args }, VERB_MS);
  }

  /** A verb that must succeed; its output. */
  async ok(verb: string, ...args: string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.xl(verb, ...args);
    if (exitCode !== 0) throw new Error(`xl ${verb}: exit ${exitCode}: ${stderr}\n${this.toolstack.printed}`);
    return stdout;
  }

  create(text: string, kernel: KernelOptions = {}): Promise<XlReply> {
    return this.xl('create', ...encodeCreate({ source: 'guest.cfg', text, kernel, settings: [] }));
  }

  async domains(): Promise<DomainInfo[]> {
    return JSON.parse(await this.ok('list', '--json'));
  }

  async domain(name: string): Promise<DomainInfo | undefined> {
    return (await this.domains()).find((info) => info.name === name);
  }

  async freePages(): Promise<number> {
    return JSON.parse(await this.ok('info', '--json')).freePages;
  }

  /** State invariants violated now. */
  async violations(): Promise<unknown[]> {
    const reply = await this.hypervisor.ask({ op: 'check-invariants' });
    if (reply.op !== 'check-invariants') throw new Error(JSON.stringify(reply));
    return reply.violations;
  }

  xenstore(domid: number): DomainXenstore {
    return new DomainXenstore({ redis: this.redis, hostId: this.hypervisor.hostId, domid, writer: 'toolstack' });
  }

  /** Waits for a piece of news, old or new. */
  async hears(what: string, isIt: (news: GuestNews) => boolean, ms = 10_000): Promise<GuestNews> {
    for (const deadline = Date.now() + ms; ; await sleep(10)) {
      const found = this.news.find(isIt);
      if (found) return found;
      if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}\n${this.#state()}`);
    }
  }

  /** Waits until `look` gives something that is neither undefined nor false. */
  async until<T>(what: string, look: () => Promise<T | undefined | false>, ms = 10_000): Promise<T> {
    for (const deadline = Date.now() + ms; ; await sleep(20)) {
      const found = await look();
      if (found !== undefined && found !== false) return found;
      if (Date.now() > deadline) throw new Error(`not within ${ms} ms: ${what}\n${this.#state()}`);
    }
  }

  /** dom0's kernel, placed as the launcher does; it has all vCPUs but the toolstack's. */
  async placeDom0Kernel(more: Partial<GuestSpec> = {}): Promise<void> {
    const info = await this.hypervisor.ask({ op: 'info' });
    if (info.op !== 'info') throw new Error(JSON.stringify(info));
    const { epoch, dom0 } = info;
    const { credentials } = await this.hypervisor.grant(0);
    const guest: GuestSpec = {
      domid: 0,
      name: 'Domain-0',
      control: true,
      vcpus: toolstackVcpu(dom0.vcpus),
      seed: 1,
      e820: null,
      targetKb: null,
      staticMaxKb: null,
      bootTouchMb: 16,
      allocation: 'scattered',
      balloon: { ...defaultBalloon, waitAtBoot: false },
      foreignMapPlace: 'ballooned-hole',
      workloads: [],
      timeScale: 10,
      ...more,
    };
    const boot = await openControl(this.redis, this.hypervisor.hostId, bootControl);
    await boot.request(
      { domid: 0, incarnation: dom0.incarnation, epoch, credentials, guest: JSON.parse(JSON.stringify(guest)) },
      START_MS,
    );
    await boot.close();
    await this.hears('dom0 is running', (n) => n.domid === 0 && n.kind === 'event' && n.name === 'running');
  }

  #state(): string {
    const heard = this.news.slice(-20).map((n) => JSON.stringify(n));
    return [this.toolstack.printed, ...this.agents.map((a) => a.printed), this.hypervisor.printed, ...heard].join('\n');
  }

  async #collect(): Promise<void> {
    const { signal } = this.#reading;
    const options = {
      redis: this.redis,
      hostId: this.hypervisor.hostId,
      name: 'guest',
      from: 'start',
      signal,
    } as const;
    for await (const { records } of readStream(options)) this.news.push(...records.map(decodeGuestNews));
  }
}
