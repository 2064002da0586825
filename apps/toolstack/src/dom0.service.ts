// The toolstack's way into the hypervisor: it acts as dom0's last vCPU, with dom0's rights. Waits for a hypervisor at start and
// ends the process, saying so, when that one is gone; everything it knew of domains is gone with it.
import { setTimeout as sleep } from 'node:timers/promises';
import { Inject, Injectable } from '@nestjs/common';
import type { Redis } from 'ioredis';
import type { Answer, AnswerOf, Call, CallOf, OpName } from '#model/hypercall/calls';
import { connectGuest } from '#wire/acl';
import type { Answers } from '#wire/answer-codec';
import { connect } from '#wire/connection';
import { type ControlClient, openControl } from '#wire/control';
import { readEpoch, watchEpoch } from '#wire/epoch';
import { type HvReply, type HvRequest, hvControl } from '#wire/hv-messages';
import { HypercallClient } from '#wire/hypercall-client';
import { toolstackVcpu } from '#wire/names';
import type { Poll } from '#wire/redis-time';
import { sendForSure } from '#wire/sync-port';
import { TOOLSTACK_CONFIG, type ToolstackConfig } from './config.ts';

const HYPERVISOR_WAIT_MS = 30_000;
const LOOK_MS = 50;
const ASK_TIMEOUT_MS = 10_000;
const CALL_TIMEOUT_MS = 5000;
const UNREACHABLE_MS = 10_000;

/** The reply of one operation. */
type HvReplyOf<O extends HvRequest['op']> = Extract<HvReply, { op: O }>;

/** The hypervisor understood, and does not answer that: no such domain. */
export class HypervisorRefused extends Error {
  override readonly name = 'HypervisorRefused';
}

@Injectable()
export class Dom0Service {
  readonly redis: Redis;
  readonly #config: ToolstackConfig;
  #hv: ControlClient<HvRequest, HvReply> | null = null;
  #client: HypercallClient | null = null;
  #guestRedis: Redis | null = null;
  #watch: Poll | null = null;
  #epoch = '';
  #over = false;

  constructor(@Inject(TOOLSTACK_CONFIG) config: ToolstackConfig) {
    this.#config = config;
    this.redis = connect(config.redis);
  }

  get epoch(): string {
    return this.#epoch;
  }

  /** Settles when hypercalls can be made. `onGone` is called once, with why. */
  async start(onGone: (why: string) => void): Promise<void> {
    const { hostId, redis: endpoint } = this.#config;
    this.#epoch = await this.#untilHypervisor();
    this.#watch = watchEpoch({
      redis: this.redis,
      hostId,
      epoch: this.#epoch,
      unreachableMs: UNREACHABLE_MS,
      onGone: (why) => {
        this.#over = true;
        onGone(why);
      },
    });
    this.#hv = await openControl(this.redis, hostId, hvControl);
    const { dom0 } = await this.ask({ op: 'info' });
    if (dom0.vcpus < 2) {
      throw new Error(
        `dom0 has ${dom0.vcpus} vCPU: it needs one for its kernel and one for the toolstack (set dom0.vcpus to 2)`,
      );
    }
    const { incarnation, credentials } = await this.ask({ op: 'grant', domid: dom0.domid });
    this.#guestRedis = await connectGuest(endpoint, credentials);
    this.#client = new HypercallClient({
      connection: this.#guestRedis,
      hostId,
      domid: dom0.domid,
      vcpu: toolstackVcpu(dom0.vcpus),
      epoch: this.#epoch,
      incarnation,
      timeoutMs: CALL_TIMEOUT_MS,
      // Above the numbers of an earlier toolstack of the same hypervisor.
      firstSeq: Date.now() * 1000,
    });
    await this.#client.ready();
  }

  async stop(): Promise<void> {
    this.#over = true;
    this.#watch?.stop();
    await Promise.all([this.#client?.close(), this.#hv?.close()]);
    this.#guestRedis?.disconnect();
    this.redis.disconnect();
  }

  /** Asks the hypervisor process itself. Throws HypervisorRefused. */
  async ask<R extends HvRequest>(request: R): Promise<HvReplyOf<R['op']>> {
    if (!this.#hv) throw new Error('asked before the start');
    const reply = await this.#hv.request(request, ASK_TIMEOUT_MS);
    if (reply.op === 'refused') throw new HypervisorRefused(reply.why);
    return reply as HvReplyOf<R['op']>; // an answer has the operation of its question
  }

  /** One envelope of hypercalls; settles when the outcome is known. */
  calls(calls: readonly Call[]): Promise<Answers> {
    if (!this.#client) return Promise.reject(new Error('a hypercall before the start'));
    return sendForSure(this.#client, calls, () => this.#over);
  }

  async call<N extends OpName>(call: CallOf<N> & { readonly op: N }): Promise<AnswerOf<N>> {
    const [answer] = await this.calls([call as Call]);
    return answer as Answer as AnswerOf<N>; // one answer for one call, of its kind
  }

  async #untilHypervisor(): Promise<string> {
    const deadline = Date.now() + HYPERVISOR_WAIT_MS;
    for (;;) {
      const epoch = await readEpoch(this.redis, this.#config.hostId);
      if (epoch !== null) return epoch;
      if (Date.now() > deadline)
        throw new Error(`host ${this.#config.hostId} has no hypervisor after ${HYPERVISOR_WAIT_MS / 1000} s`);
      await sleep(LOOK_MS);
    }
  }
}
