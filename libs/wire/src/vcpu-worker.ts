// The hypervisor's end of one vCPU's queue: takes its jobs one at a time, in queue order, and hands readable calls to the
// handler. What comes in is hostile. It never fails a job and never throws: every job is answered, by the handler's answers
// or by a transport error. Who called is the queue, never a field of the job. It knows no call's meaning.
//
// Give it a connection with the domain's `worker` rights (acl.ts): BullMQ's scripts follow parent keys that stand in a job,
// and with those rights they cannot leave the domain.
//
//   job → opts, envelope, epoch, incarnation → ledger ─ new ─→ handler ─→ recorded ─→ reply published, job completed
//                                                 └─ known ─→ recorded outcome ──↗

import { strict as assert } from 'node:assert';
import { Job, Worker, type WorkerOptions } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Answers } from './answer-codec.ts';
import {
  decodeEnvelope,
  type Envelope,
  encodeAnswers,
  encodeReply,
  encodeTransportError,
  mergeAnswers,
  TransportError,
} from './messages.ts';
import { callJobId, hostPrefix, replyChannel, vcpuQueue } from './names.ts';
import { LEDGER_WINDOW, VcpuLedger } from './vcpu-ledger.ts';

export interface VcpuIdentity {
  readonly domid: number;
  readonly vcpu: number;
  readonly incarnation: number;
  readonly epoch: string;
}

/** Runs the readable calls of an envelope; one answer each, in order. */
export type CallHandler = (envelope: Envelope, identity: VcpuIdentity) => Promise<Answers> | Answers;

export interface VcpuWorkerOptions extends VcpuIdentity {
  readonly connection: Redis;
  readonly hostId: string;
  readonly handler: CallHandler;
  /** Handed over when a queue's worker is replaced while its vCPU lives on. */
  readonly ledger?: VcpuLedger<string>;
  /** A handler that threw, a Redis error: for the log. */
  readonly onError?: (error: Error) => void;
}

export interface VcpuCounters {
  jobs: number;
  calls: number;
  /** Jobs and calls that could not be read. */
  malformed: number;
  /** Jobs refused for their options, epoch, incarnation or age. */
  refused: number;
  /** Deliveries answered from the ledger. */
  redelivered: number;
  errors: number;
}

export interface VcpuWorker {
  readonly counters: Readonly<VcpuCounters>;
  readonly ledger: VcpuLedger<string>;
  /** Takes no further job; returns when the one in hand is finished. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Does not wait for a call that is still running (it may be blocked for ever). */
  close(): Promise<void>;
}

/** Options by which a guest could leave its place in the queue, or reach another one. */
const refusedOpts = ['priority', 'lifo', 'delay', 'parent', 'repeat', 'repeatJobKey', 'deduplication'] as const;
/** Finished jobs kept for `retry`: as many as the ledger remembers. */
const kept = { removeOnComplete: { count: LEDGER_WINDOW }, removeOnFail: { count: LEDGER_WINDOW } };
/** A guest that breaks its own queue's keys makes each fetch fail at once: rest between such bursts. */
const ERROR_BURST = 10;
const REST_MS = 1000;

interface GuestJob {
  readonly data: unknown;
  readonly refused: string | null;
}

type StoredJob = Parameters<typeof Job.fromJSON>[1];

/** Characters of one envelope; the largest that a kernel here sends is a tenth of it. More is not even parsed. */
const DATA_MAX = 8 * 2 ** 20;

/** What a guest stored, without trusting it: its options and links are noted, then replaced by ours. */
function readStoredJob(json: StoredJob): { json: StoredJob; job: GuestJob } {
  const opts: unknown = json.opts;
  const given = new Map(typeof opts === 'object' && opts !== null ? Object.entries(opts) : []);
  const named = refusedOpts.find((name) => Boolean(given.get(name)));
  const linked = json.parentKey || json.parent ? 'parent' : json.repeatJobKey ? 'repeat' : null;
  let data: unknown;
  try {
    data = json.data.length > DATA_MAX ? null : JSON.parse(json.data);
  } catch {
    data = null; // refused below as a malformed envelope
  }
  const clean: StoredJob = {
    id: json.id,
    name: json.name,
    data: 'null',
    opts: { attempts: 1, ...kept },
    progress: 0,
    attemptsMade: 0,
    attemptsStarted: 1,
    timestamp: 0,
    failedReason: '',
    returnvalue: 'null',
    stalledCounter: 0,
  };
  return { json: clean, job: { data, refused: named ?? linked } };
}

/** BullMQ's worker, with jobs read defensively. */
class GuestQueueWorker extends Worker<GuestJob, string> {
  protected override createJob(stored: StoredJob, jobId: string): Job<GuestJob, string> {
    const { json, job } = readStoredJob(stored);
    const created = Job.fromJSON<GuestJob, string>(this, json, jobId);
    created.data = job;
    return created;
  }
}

class VcpuQueue implements VcpuWorker {
  readonly counters: VcpuCounters = { jobs: 0, calls: 0, malformed: 0, refused: 0, redelivered: 0, errors: 0 };
  readonly ledger: VcpuLedger<string>;
  readonly worker: GuestQueueWorker;
  readonly #options: VcpuWorkerOptions;
  readonly #identity: VcpuIdentity;
  readonly #channel: string;
  #errorsInRow = 0;
  #rest: NodeJS.Timeout | undefined;
  #paused = false;

  constructor(options: VcpuWorkerOptions) {
    const { hostId, domid, vcpu, incarnation, epoch } = options;
    this.#options = options;
    this.#identity = { domid, vcpu, incarnation, epoch };
    this.#channel = replyChannel(hostId, domid);
    this.ledger = options.ledger ?? new VcpuLedger();
    const bull: WorkerOptions = {
      connection: options.connection,
      prefix: hostPrefix(hostId),
      skipVersionCheck: true,
      concurrency: 1,
      lockDuration: 5000,
      stalledInterval: 2000,
      // A job found stalled is not run again by BullMQ; the client's retry brings it back, to the ledger.
      maxStalledCount: 0,
      runRetryDelay: 1000,
      ...kept,
    };
    this.worker = new GuestQueueWorker(vcpuQueue(domid, vcpu), (job) => this.#answer(job), bull);
    this.worker.on('error', (error) => this.#failed(error));
  }

  async #answer(job: Job<GuestJob, string>): Promise<string> {
    const jobId = job.id ?? '';
    this.counters.jobs++;
    const body = await this.#outcome(jobId, job.data);
    this.#errorsInRow = 0;
    // The outcome is recorded, so the reply need not wait for BullMQ: the vCPU's next job meets the completion of this one.
    const text = encodeReply(this.#identity.vcpu, jobId, body);
    this.#options.connection.publish(this.#channel, text).catch((error: Error) => this.#failed(error));
    return body;
  }

  /** The body of the reply. Never rejects. */
  async #outcome(jobId: string, job: GuestJob): Promise<string> {
    try {
      if (job.refused) throw new TransportError('REFUSED_OPTS', `a hypercall job takes no '${job.refused}'`);
      const envelope = this.#open(jobId, job.data);
      if (this.ledger.state(envelope.seq) !== 'new') this.counters.redelivered++;
      const outcome = this.ledger.run(envelope.seq, () => this.#effect(envelope));
      if (outcome !== null) return await outcome;
      throw new TransportError('SEQ_TOO_OLD', `${envelope.seq} is no longer remembered; its outcome is unknown`);
    } catch (error) {
      if (!(error instanceof TransportError)) return this.#broken(error);
      if (error.code === 'BAD_ENVELOPE') this.counters.malformed++;
      else this.counters.refused++;
      return encodeTransportError(error);
    }
  }

  #open(jobId: string, data: unknown): Envelope {
    const envelope = decodeEnvelope(data);
    const { epoch, incarnation } = this.#identity;
    if (envelope.epoch !== epoch) throw new TransportError('STALE_EPOCH', `this hypervisor's epoch is ${epoch}`);
    if (envelope.incarnation !== incarnation) {
      throw new TransportError('STALE_INCARNATION', `this domain's incarnation is ${incarnation}`);
    }
    if (jobId !== callJobId(epoch, incarnation, envelope.seq)) {
      throw new TransportError('BAD_ENVELOPE', 'job id and sequence number do not agree');
    }
    return envelope;
  }

  /** Runs the handler once. Never rejects: what happened is recorded, a failure of the handler too. */
  async #effect(envelope: Envelope): Promise<string> {
    this.counters.calls += envelope.calls.length;
    this.counters.malformed += envelope.faultCount;
    try {
      const answers = envelope.calls.length > 0 ? await this.#options.handler(envelope, this.#identity) : [];
      assert.equal(answers.length, envelope.calls.length, 'the handler gave one answer for each call');
      return encodeAnswers(mergeAnswers(envelope.faults, answers));
    } catch (error) {
      return this.#broken(error);
    }
  }

  #broken(error: unknown): string {
    this.#failed(error instanceof Error ? error : new Error(String(error)));
    return encodeTransportError(new TransportError('HANDLER_FAILED', 'the hypervisor could not finish this call'));
  }

  #failed(error: Error): void {
    this.counters.errors++;
    this.#options.onError?.(error);
    if (++this.#errorsInRow < ERROR_BURST || this.#rest || this.#paused) return;
    this.#errorsInRow = 0;
    void this.worker.pause(true);
    this.#rest = setTimeout(() => {
      this.#rest = undefined;
      if (!this.#paused) void this.worker.resume();
    }, REST_MS).unref();
  }

  async pause(): Promise<void> {
    this.#paused = true;
    await this.worker.pause();
  }

  async resume(): Promise<void> {
    this.#paused = false;
    await this.worker.resume();
  }

  async close(): Promise<void> {
    clearTimeout(this.#rest);
    this.#paused = true;
    await this.worker.close(true);
  }
}

/** Serves one vCPU's queue from now on. */
export async function startVcpuWorker(options: VcpuWorkerOptions): Promise<VcpuWorker> {
  const queue = new VcpuQueue(options);
  await queue.worker.waitUntilReady();
  return queue;
}
