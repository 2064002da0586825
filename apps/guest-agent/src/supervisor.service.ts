// The trusted part of a guest agent: takes placements from the boot queue, starts one guest process for each, passes commands on
// and puts what guests report, and their ends, into the stream `guest`. It restarts nothing and decides nothing about domains.
import { Inject, Injectable } from '@nestjs/common';
import type { Redis } from 'ioredis';
import { removeKeys } from '#wire/acl';
import { connect } from '#wire/connection';
import { bootControl, type ControlServer, serveControl } from '#wire/control';
import {
  encodeGuestNews,
  type GuestHappening,
  type GuestReply,
  type GuestRequest,
  guestControl,
  guestSpecSchema,
} from '#wire/guest-messages';
import type { BootReply, BootRequest } from '#wire/messages';
import { guestQueueKeys } from '#wire/names';
import { StreamWriter } from '#wire/streams';
import { AGENT_CONFIG, type AgentConfig } from './config.ts';
import type { TimedEvent } from './guest/ipc.ts';
import { type GuestExit, GuestProcess } from './guest-process.ts';

type Domain = Pick<BootRequest, 'domid' | 'incarnation'>;

interface Held {
  readonly process: GuestProcess;
  commands: ControlServer | null;
}

const NEWS_MS = 20;
const FAREWELL_MS = 500;
const nowUs = (): number => Math.round((performance.timeOrigin + performance.now()) * 1000);

@Injectable()
export class SupervisorService {
  readonly #config: AgentConfig;
  readonly #redis: Redis;
  readonly #news: StreamWriter;
  readonly #held = new Map<number, Held>();
  #boot: ControlServer | null = null;
  #stopping = false;

  constructor(@Inject(AGENT_CONFIG) config: AgentConfig) {
    this.#config = config;
    this.#redis = connect(config.redis);
    this.#news = new StreamWriter({ redis: this.#redis, hostId: config.hostId, name: 'guest', chunkMs: NEWS_MS });
  }

  get redis(): Redis {
    return this.#redis;
  }

  get name(): string {
    return `agent-${process.pid}`;
  }

  /** Settles when placements are taken. */
  async start(): Promise<void> {
    this.#boot = await serveControl({
      connection: this.#redis,
      hostId: this.#config.hostId,
      control: bootControl,
      handler: (request) => this.#place(request),
    });
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    const goodbye = async (): Promise<void> => {
      await this.#boot?.close();
      const guests = [...this.#held.values()].map(({ process: guest }) => guest);
      for (const guest of guests) guest.stop();
      await Promise.all(guests.map((guest) => guest.gone));
      await this.#news.flush();
    };
    await Promise.race([goodbye().catch(() => {}), new Promise((resolve) => setTimeout(resolve, FAREWELL_MS))]);
    this.#redis.disconnect();
  }

  async #place(request: BootRequest): Promise<BootReply> {
    const { domid, incarnation, epoch, credentials, faults = [] } = request;
    if (this.#held.has(domid)) throw new Error(`domain ${domid} has a guest process at ${this.name} already`);
    const spec = guestSpecSchema.parse(request.guest);
    if (spec.domid !== domid)
      throw new Error(`a placement of domain ${domid} with the specification of domain ${spec.domid}`);
    const { hostId, redis: endpoint } = this.#config;
    const guest = new GuestProcess({
      placement: { endpoint, hostId, epoch, incarnation, credentials, spec, faults },
      onEvents: (events) => this.#pass(request, events),
      onExit: (exit) => this.#ended(request, exit),
    });
    const held: Held = { process: guest, commands: null };
    this.#held.set(domid, held);
    if (this.#held.size >= this.#config.capacity) await this.#boot?.pause();
    await guest.attached();
    held.commands = await serveControl({
      connection: this.#redis,
      hostId,
      control: guestControl(domid),
      concurrency: 8,
      handler: (command) => this.#command(guest, command),
    });
    const { pid } = guest;
    this.#tell(request, { kind: 'placed', guest: spec.name, agent: this.name, agentPid: process.pid, pid });
    return { agent: this.name, pid };
  }

  async #command(guest: GuestProcess, request: GuestRequest): Promise<GuestReply> {
    if (request.op === 'stop') {
      guest.stop();
      return { event: null };
    }
    const { command, await: awaited } = request;
    const event = awaited ? guest.waitFor(awaited.event, awaited.id, awaited.timeoutMs) : null;
    guest.command(command);
    const found = await event;
    return { event: found ? { name: found.name, data: { ...found.data } } : null };
  }

  #pass(domain: Domain, events: readonly TimedEvent[]): void {
    for (const { tsUs, name, data } of events) {
      // Name and data belong together in each event; taking them apart loses that.
      this.#tell(domain, { kind: 'event', name, data } as GuestHappening, tsUs);
    }
  }

  #tell({ domid, incarnation }: Domain, what: GuestHappening, tsUs = nowUs()): void {
    this.#news.push(encodeGuestNews({ ...what, tsUs, domid, incarnation }));
  }

  #ended(domain: Domain, exit: GuestExit): void {
    const { domid } = domain;
    const held = this.#held.get(domid);
    this.#held.delete(domid);
    this.#tell(domain, { kind: 'exit', ...exit });
    if (this.#stopping) return;
    void this.#boot?.resume();
    void this.#forget(domid, held?.commands ?? null).catch(() => {}); // leftover keys of one queue harm nobody
  }

  async #forget(domid: number, commands: ControlServer | null): Promise<void> {
    await commands?.close();
    if (!this.#held.has(domid)) await removeKeys(this.#redis, guestQueueKeys(this.#config.hostId, domid));
  }
}
