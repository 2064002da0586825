// A guest's end of one vCPU's queue: sends envelopes, matches replies, and is honest about time: a timeout is *unknown*, never
// *failed*. An unknown outcome can be asked for again by its sequence number; the effect happens once, however often one asks.
// It knows no call's meaning, and blocks nobody: the vCPU's thread waits elsewhere.

import { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Call } from '#model/hypercall/calls';
import type { Answers } from './answer-codec.ts';
import { decodeReplyBody, encodeEnvelope, type WireEnvelope } from './messages.ts';
import { callJobId, hostPrefix, jobKey, vcpuQueue } from './names.ts';
import { ReplyReader } from './reply-reader.ts';
import { LEDGER_WINDOW } from './vcpu-ledger.ts';

export interface HypercallClientOptions {
  /** A guest's connection: its own credentials, scripts by hash (acl.ts `connectGuest`). */
  readonly connection: Redis;
  readonly hostId: string;
  readonly domid: number;
  readonly vcpu: number;
  readonly epoch: string;
  readonly incarnation: number;
  readonly timeoutMs: number;
  /** For a client that takes over from another within one incarnation: above all numbers used. */
  readonly firstSeq?: number;
  /** The process's reader, shared by its vCPUs; without one the client opens its own. */
  readonly replies?: ReplyReader;
}

/** No reply in time: the calls may have run, may run yet, or not. `retry(seq)` finds out. */
export class UnknownOutcome extends Error {
  override readonly name = 'UnknownOutcome';
  readonly seq: number;
  readonly jobId: string;
  constructor(seq: number, jobId: string, why: string) {
    super(`outcome of ${jobId} is unknown: ${why}`);
    this.seq = seq;
    this.jobId = jobId;
  }
}

interface Pending {
  readonly seq: number;
  readonly jobId: string;
  readonly resolve: (answers: Answers) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

/** Jobs of a vCPU without a known outcome may not outgrow what the hypervisor remembers. */
export const OUTSTANDING_MAX = LEDGER_WINDOW;

export class HypercallClient {
  readonly #options: HypercallClientOptions;
  readonly #queue: Queue;
  readonly #replies: ReplyReader;
  readonly #pending = new Map<string, Pending>();
  /** Sent, outcome not known yet: kept for `retry`. */
  readonly #unsettled = new Map<number, WireEnvelope>();
  #seq: number;
  #closed = false;

  constructor(options: HypercallClientOptions) {
    const { connection, hostId, domid, vcpu } = options;
    this.#options = options;
    this.#seq = (options.firstSeq ?? 1) - 1;
    this.#queue = new Queue(vcpuQueue(domid, vcpu), {
      connection,
      prefix: hostPrefix(hostId),
      skipVersionCheck: true,
      // Nobody reads the event stream; keep it short.
      streams: { events: { maxLen: 100 } },
      defaultJobOptions: { removeOnComplete: { count: LEDGER_WINDOW }, removeOnFail: { count: LEDGER_WINDOW } },
    });
    this.#queue.on('error', () => {}); // the connection reconnects; each call has its timeout
    this.#replies = options.replies ?? new ReplyReader(connection, hostId, domid);
    this.#replies.listen(vcpu, {
      onReply: (jobId, body) => this.#settle(jobId, body),
      onGap: () => void this.#lookUpAll(),
    });
  }

  /** Settles when calls can be sent. */
  async ready(): Promise<void> {
    await this.#replies.ready;
    await this.#queue.waitUntilReady();
  }

  /** One job. Rejects with TransportError (no effect, or a failed handler) or UnknownOutcome. */
  async send(calls: readonly Call[]): Promise<Answers> {
    await this.#replies.ready;
    if (this.#unsettled.size >= OUTSTANDING_MAX) {
      throw new RangeError(`${OUTSTANDING_MAX} envelopes of this vCPU are outstanding: settle them first`);
    }
    const { epoch, incarnation } = this.#options;
    const seq = ++this.#seq;
    const envelope = encodeEnvelope(epoch, incarnation, seq, calls);
    this.#unsettled.set(seq, envelope);
    return this.#ask(envelope);
  }

  /** Asks again for an outcome that `send` left unknown: attaches to the job, or fetches what was recorded. */
  async retry(seq: number): Promise<Answers> {
    const envelope = this.#unsettled.get(seq);
    if (!envelope) throw new RangeError(`no unknown outcome under sequence number ${seq}`);
    await this.#dropFailed(this.#jobId(seq));
    const answers = this.#ask(envelope);
    void this.#lookUp(this.#jobId(seq)); // a job that is done already sends no second reply
    return answers;
  }

  /** Envelopes whose outcome is not known. */
  get outstanding(): readonly number[] {
    return [...this.#unsettled.keys()];
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#replies.forget(this.#options.vcpu);
    if (!this.#options.replies) this.#replies.close();
    for (const { jobId } of [...this.#pending.values()]) this.#giveUp(jobId, 'the client was closed');
    await this.#queue.close();
  }

  #jobId(seq: number): string {
    return callJobId(this.#options.epoch, this.#options.incarnation, seq);
  }

  #ask(envelope: WireEnvelope): Promise<Answers> {
    const { seq } = envelope;
    const jobId = this.#jobId(seq);
    if (this.#closed) return Promise.reject(new UnknownOutcome(seq, jobId, 'the client was closed'));
    this.#giveUp(jobId, 'asked again');
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => void this.#timedOut(jobId), this.#options.timeoutMs);
      this.#pending.set(jobId, { seq, jobId, resolve, reject, timer });
      // An id that the queue holds already is left as it is.
      this.#queue.add('call', envelope, { jobId }).catch((error: Error) => this.#notAdded(jobId, error));
    });
  }

  #take(jobId: string): Pending | undefined {
    const pending = this.#pending.get(jobId);
    if (!pending) return undefined;
    this.#pending.delete(jobId);
    clearTimeout(pending.timer);
    return pending;
  }

  #settle(jobId: string, body: unknown): void {
    const pending = this.#take(jobId);
    if (!pending) return;
    this.#unsettled.delete(pending.seq);
    try {
      pending.resolve(decodeReplyBody(body));
    } catch (error) {
      pending.reject(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #giveUp(jobId: string, why: string): void {
    const pending = this.#take(jobId);
    pending?.reject(new UnknownOutcome(pending.seq, jobId, why));
  }

  #notAdded(jobId: string, error: Error): void {
    // Redis refused the command itself (no right, revoked user): certain, there is no job.
    if (error.name !== 'ReplyError') {
      this.#giveUp(jobId, error.message);
      return;
    }
    const pending = this.#take(jobId);
    if (pending) this.#unsettled.delete(pending.seq);
    pending?.reject(error);
  }

  async #timedOut(jobId: string): Promise<void> {
    await this.#lookUp(jobId);
    this.#giveUp(jobId, `no reply within ${this.#options.timeoutMs} ms`);
  }

  /** Settles a job from the outcome that BullMQ recorded with it, if there is one. */
  async #lookUp(jobId: string): Promise<void> {
    const { connection, hostId, domid, vcpu } = this.#options;
    const key = jobKey(hostId, vcpuQueue(domid, vcpu), jobId);
    // While Redis is away the answer is "not known", not a wait.
    if (connection.status !== 'ready') return;
    const recorded = await connection.hget(key, 'returnvalue').catch(() => null);
    if (recorded === null) return;
    // The recorded value is the reply's text as a JSON string.
    const text: unknown = JSON.parse(recorded);
    if (typeof text === 'string') this.#settle(jobId, JSON.parse(text));
  }

  async #lookUpAll(): Promise<void> {
    await Promise.all([...this.#pending.keys()].map((jobId) => this.#lookUp(jobId)));
  }

  /** A job found stalled stands as failed and would never run again: make room for a new delivery. */
  async #dropFailed(jobId: string): Promise<void> {
    const { connection, hostId, domid, vcpu } = this.#options;
    const key = jobKey(hostId, vcpuQueue(domid, vcpu), jobId);
    const [finished, returned] = await connection.hmget(key, 'finishedOn', 'returnvalue');
    if (!finished || returned !== null) return;
    await connection
      .multi()
      .zrem(jobKey(hostId, vcpuQueue(domid, vcpu), 'failed'), jobId)
      .del(key)
      .exec();
  }
}
