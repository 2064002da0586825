// A whole hypervisor process with its private Redis, for end-to-end tests and benchmarks: built code, real queues, and clients as
// guests have them. `stop` ends both and answers the exit status.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { HostConfig } from '#model/host-config';
import type { PlannedFault } from '#model/shared-memory/fault-plan';
import { connectGuest } from '#wire/acl';
import { type ControlClient, openControl } from '#wire/control';
import { type HvReply, type HvRequest, hvControl } from '#wire/hv-messages';
import { HypercallClient } from '#wire/hypercall-client';
import { connect, type RedisServer, startRedisServer } from '#wire/redis-server';
import { ReplyReader } from '#wire/reply-reader';

const MAIN = new URL('../../dist/bundle/apps/hypervisor/src/main.js', import.meta.url).pathname;
const START_MS = 15_000;
const HOST_ID = 'test';

export interface HypervisorOptions {
  readonly config: HostConfig;
  readonly dom0?: { readonly memoryMb: number; readonly vcpus: number };
  readonly faultPlan?: readonly PlannedFault[];
  readonly record?: boolean;
}

export type Grant = Extract<HvReply, { op: 'grant' }>;

export interface Guest {
  readonly clients: readonly HypercallClient[];
  close(): Promise<void>;
}

export class HypervisorProcess {
  readonly hostId = HOST_ID;
  readonly server: RedisServer;
  readonly runDir: string;
  readonly child: ChildProcess;
  /** Exit status, or the signal's name. */
  readonly exited: Promise<number | string>;
  /** From the start of the process to its readiness. */
  upMs = 0;
  private output = '';
  private readonly closers: (() => unknown)[] = [];
  private control: ControlClient<HvRequest, HvReply> | null = null;

  private constructor(server: RedisServer, runDir: string, child: ChildProcess) {
    this.server = server;
    this.runDir = runDir;
    this.child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk) => {
        this.output += chunk;
      });
    }
    this.exited = new Promise((resolve) => child.once('exit', (code, signal) => resolve(code ?? signal ?? 'unknown')));
  }

  static async start(options: HypervisorOptions): Promise<HypervisorProcess> {
    const server = await startRedisServer();
    const runDir = mkdtempSync(join(tmpdir(), 'hostloom-run-'));
    const { config, dom0 = { memoryMb: 64, vcpus: 2 }, faultPlan = [], record = false } = options;
    const file = join(runDir, 'run.json');
    writeFileSync(file, JSON.stringify({ config, dom0, faultPlan, record }));
    const env = {
      ...process.env,
      HOSTLOOM_HOST_ID: HOST_ID,
      HOSTLOOM_REDIS: server.endpoint.path,
      HOSTLOOM_REDIS_PASSWORD: server.endpoint.password ?? '',
      HOSTLOOM_CONFIG: file,
      HOSTLOOM_RUN_DIR: runDir,
    };
    const args = [MAIN];
    const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const hypervisor = new HypervisorProcess(server, runDir, child);
    try {
      await hypervisor.up();
    } catch (error) {
      await hypervisor.stop();
      throw error;
    }
    return hypervisor;
  }

  get printed(): string {
    return this.output;
  }

  /** A file of the run directory. */
  file(name: string): string {
    return readFileSync(join(this.runDir, name), 'utf8');
  }

  private async up(): Promise<void> {
    const start = performance.now();
    const deadline = Date.now() + START_MS;
    let gone = false;
    void this.exited.then(() => {
      gone = true;
    });
    while (!this.output.includes(' is up')) {
      if (gone) throw new Error(`the hypervisor ended at once: ${this.output}`);
      if (Date.now() > deadline) throw new Error(`the hypervisor is not up after ${START_MS} ms: ${this.output}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    this.upMs = performance.now() - start;
  }

  /** Asks the privileged queue. */
  async ask(request: HvRequest): Promise<HvReply> {
    if (!this.control) {
      const redis = connect(this.server.endpoint);
      const control = await openControl(redis, HOST_ID, hvControl);
      this.closers.push(async () => {
        await control.close();
        redis.disconnect();
      });
      this.control = control;
    }
    return this.control.request(request, 20_000);
  }

  async grant(domid: number): Promise<Grant> {
    const reply = await this.ask({ op: 'grant', domid });
    if (reply.op !== 'grant') throw new Error(JSON.stringify(reply));
    return reply;
  }

  /** Clients of all vCPUs of a domain, with its own rights. `epoch` may be a stale one. */
  async guest(domid: number, epoch?: string): Promise<Guest> {
    const granted = await this.grant(domid);
    const connection = await connectGuest(this.server.endpoint, granted.credentials);
    const replies = new ReplyReader(connection, HOST_ID, domid);
    const clients = Array.from(
      { length: granted.vcpus },
      (_, vcpu) =>
        new HypercallClient({
          connection,
          replies,
          hostId: HOST_ID,
          domid,
          vcpu,
          epoch: epoch ?? granted.epoch,
          incarnation: granted.incarnation,
          timeoutMs: 20_000,
        }),
    );
    await Promise.all(clients.map((client) => client.ready()));
    let closed = false;
    const close = async (): Promise<void> => {
      if (closed) return;
      closed = true;
      await Promise.all(clients.map((client) => client.close()));
      replies.close();
      connection.disconnect();
    };
    this.closers.push(close);
    return { clients, close };
  }

  /** SIGTERM, then everything of it away. Answers the exit status and how long the process took. */
  async stop(): Promise<{ status: number | string; ms: number }> {
    await Promise.all(this.closers.splice(0).map((close) => close()));
    const start = performance.now();
    this.child.kill('SIGTERM');
    const status = await this.exited;
    const ms = performance.now() - start;
    await this.server.stop();
    rmSync(this.runDir, { recursive: true, force: true });
    return { status, ms };
  }
}
