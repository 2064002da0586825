// Where guests run: asks for an agent by a boot job, talks to the supervisor that took it, and hears from the stream `guest` and
// from missing heartbeats when a guest is no more. It decides nothing about domains; what happened is told to one listener.
import { Inject, Injectable } from '@nestjs/common';
import type { GuestCommand, GuestSpec } from '#model/guest/guest-spec';
import { bootControl, type ControlClient, NobodyTook, openControl } from '#wire/control';
import {
  decodeGuestNews,
  type GuestNews,
  type GuestReply,
  type GuestRequest,
  guestControl,
} from '#wire/guest-messages';
import { watchHeartbeat } from '#wire/heartbeat';
import type { BootReply, BootRequest } from '#wire/messages';
import type { Poll } from '#wire/redis-time';
import { readStream } from '#wire/streams';
import { TOOLSTACK_CONFIG, type ToolstackConfig } from './config.ts';
import { Dom0Service } from './dom0.service.ts';

const ATTACH_MS = 20_000;
const COMMAND_MS = 5000;
const STOP_MS = 2000;
const LOOK_MS = 500;

/** A guest's process, as the agent that holds it named itself. */
export interface Placed {
  readonly domid: number;
  readonly incarnation: number;
  readonly agent: string;
  readonly pid: number;
}

interface Followed {
  readonly placed: Placed;
  readonly heartbeat: Poll;
  readonly commands: Promise<ControlClient<GuestRequest, GuestReply>>;
  /** Settles when its process is known to be gone. */
  readonly gone: Promise<void>;
  readonly isGone: () => void;
}

/** Nobody runs the domain's vCPUs any more. */
export type GuestLost = (placed: Placed, why: string) => void;

@Injectable()
export class PlacementService {
  readonly #config: ToolstackConfig;
  readonly #dom0: Dom0Service;
  readonly #followed = new Map<number, Followed>();
  /** Guests that ended before their placement was heard of. */
  readonly #endedEarly = new Map<string, string>();
  /** Whom any agent said it holds: dom0's guest is placed by the launcher. */
  readonly #seen = new Map<number, Placed>();
  readonly #closing = new AbortController();
  #boot: ControlClient<BootRequest, BootReply> | null = null;
  #onLost: GuestLost = () => {};

  constructor(@Inject(TOOLSTACK_CONFIG) config: ToolstackConfig, @Inject(Dom0Service) dom0: Dom0Service) {
    this.#config = config;
    this.#dom0 = dom0;
  }

  async start(onLost: GuestLost): Promise<void> {
    this.#onLost = onLost;
    this.#boot = await openControl(this.#dom0.redis, this.#config.hostId, bootControl);
    void this.#readNews();
  }

  async stop(): Promise<void> {
    this.#closing.abort();
    for (const { heartbeat } of this.#followed.values()) heartbeat.stop();
    await this.#boot?.close();
  }

  /** Places a guest. Throws with a sentence for the operator if no agent took it, or the one that did could not start it. */
  async place(spec: GuestSpec): Promise<Placed> {
    if (!this.#boot) throw new Error('a placement before the start');
    const { domid } = spec;
    const { incarnation, credentials, epoch, faults } = await this.#dom0.ask({ op: 'grant', domid });
    const { agentWaitMs } = this.#config.knobs;
    // Through JSON: a specification is plain data, its readonly arrays are not zod's.
    const guest = JSON.parse(JSON.stringify(spec));
    const reply = await this.#boot
      .request({ domid, incarnation, epoch, credentials, guest, faults }, agentWaitMs, ATTACH_MS)
      .catch((error: Error) => {
        if (!(error instanceof NobodyTook)) throw error;
        throw new Error(
          `no idle guest agent took domain ${domid} within ${agentWaitMs / 1000} s: start another guest agent`,
        );
      });
    const placed = { domid, incarnation, agent: reply.agent, pid: reply.pid };
    this.#follow(placed);
    return placed;
  }

  /** Whom this toolstack follows; null: nobody runs the domain, or it is not this toolstack's. */
  followed(domid: number): Placed | null {
    return this.#followed.get(domid)?.placed ?? null;
  }

  /** A guest that an earlier toolstack placed: its end will be reported, also if it has come already. */
  resume(placed: Placed): void {
    this.#follow(placed);
  }

  placed(domid: number): Placed | null {
    return this.#followed.get(domid)?.placed ?? this.#seen.get(domid) ?? null;
  }

  /** Follows a guest no more: its end will not be reported. */
  forget(domid: number): void {
    const followed = this.#followed.get(domid);
    this.#followed.delete(domid);
    followed?.isGone();
    followed?.heartbeat.stop();
    void followed?.commands.then((client) => client.close()).catch(() => {});
  }

  /** Ends a guest's process, whose domain is gone or going. Safe when there is none. */
  async end(domid: number): Promise<void> {
    const followed = this.#followed.get(domid);
    if (!followed) return;
    const commands = await followed.commands;
    const stopped = commands.request({ op: 'stop' }, STOP_MS).catch(() => {}); // nobody took it: it has ended by itself
    await Promise.race([stopped, followed.gone]);
    this.forget(domid);
  }

  /** Ends the process of a domain that nobody follows, if there is one. */
  async endUnknown(domid: number): Promise<void> {
    const client = await this.#openCommands(domid);
    await client.request({ op: 'stop' }, STOP_MS).catch(() => {}); // nobody took it: nobody runs it
    await client.close();
  }

  /** Hands a guest's kernel a command; with `event`, waits for what the kernel then reports under that name. */
  async command(
    domid: number,
    command: GuestCommand,
    event: { readonly name: string; readonly id: string | null; readonly timeoutMs: number } | null = null,
  ): Promise<GuestReply['event']> {
    const awaited = event && { event: event.name, id: event.id, timeoutMs: event.timeoutMs };
    const followed = this.#followed.get(domid);
    const client = await (followed?.commands ?? this.#openCommands(domid));
    try {
      const request: GuestRequest = { op: 'command', command, await: awaited };
      const reply = client.request(request, COMMAND_MS, COMMAND_MS + (event?.timeoutMs ?? 0));
      const ended = followed?.gone.then(() => {
        throw new Error(`the guest process of domain ${domid} ended`);
      });
      return (await (ended === undefined ? reply : Promise.race([reply, ended]))).event;
    } finally {
      if (!this.#followed.has(domid)) await client.close();
    }
  }

  #openCommands(domid: number): Promise<ControlClient<GuestRequest, GuestReply>> {
    return openControl(this.#dom0.redis, this.#config.hostId, guestControl(domid));
  }

  #follow(placed: Placed): void {
    const { domid } = placed;
    const { hostId, knobs } = this.#config;
    this.forget(domid);
    const heartbeat = watchHeartbeat({
      redis: this.#dom0.redis,
      hostId,
      domid,
      everyMs: LOOK_MS,
      missingMs: knobs.heartbeatMissingMs,
      onMissing: (ms) => this.#lost(placed, `no heartbeat for ${(ms / 1000).toFixed(1)} s`),
    });
    const { promise: gone, resolve: isGone } = Promise.withResolvers<void>();
    this.#followed.set(domid, { placed, heartbeat, commands: this.#openCommands(domid), gone, isGone });
    const early = this.#endedEarly.get(keyOf(placed));
    if (early !== undefined) this.#lost(placed, early);
  }

  #lost(placed: Placed, why: string): void {
    if (this.#followed.get(placed.domid)?.placed !== placed) return;
    this.forget(placed.domid);
    this.#onLost(placed, why);
  }

  async #readNews(): Promise<void> {
    const { signal } = this.#closing;
    const options = {
      redis: this.#dom0.redis,
      hostId: this.#config.hostId,
      name: 'guest',
      from: 'start',
      signal,
    } as const;
    for await (const { records } of readStream(options)) {
      for (const record of records) this.#hear(decodeGuestNews(record));
    }
  }

  #hear(news: GuestNews): void {
    if (news.kind === 'placed') {
      const { domid, incarnation, agent, pid } = news;
      this.#seen.set(domid, { domid, incarnation, agent, pid });
    }
    if (news.kind !== 'exit') return;
    this.#seen.delete(news.domid);
    const placed = this.#followed.get(news.domid)?.placed;
    if (placed?.incarnation === news.incarnation) this.#lost(placed, news.why);
    else this.#endedEarly.set(keyOf(news), news.why);
  }
}

const keyOf = ({ domid, incarnation }: { domid: number; incarnation: number }): string => `${domid}/${incarnation}`;
