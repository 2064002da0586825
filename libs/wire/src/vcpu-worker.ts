// The hypervisor's end of one vCPU's queue: takes its jobs one at a time, in queue order, and hands readable calls to the
// handler. What comes in is hostile. It never fails a job and never throws: every job is answered, by the handler's answers
// or by a transport error. Who called is the queue, never a field of the job. It knows no call's meaning.
//
// Give it a connection with the domain's `worker` rights (acl.ts): BullMQ's scripts follow parent keys that stand in a job,
// and with those rights they cannot leave the domain.
//
//   job → opts, room in flight, envelope, epoch, incarnation → ledger ─ new ─→ handler ─→ recorded ─→ reply published,
//                                                                └─ known ─→ recorded outcome ──↗     job completed, room given back

import { strict as assert } from 'node:assert';
import { Job, Worker, type WorkerOptions } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Answers } from './answer-codec.ts';
import { DomainBudget, type Share } from './domain-budget.ts';
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
  /** Shared by all vCPUs of the domain. */
  readonly budget?: DomainBudget;
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
  /** What the guest sent, unread; null: it is too long to be read. */
  text: string | null;
  readonly refused: string | null;
}

type StoredJob = Parameters<typeof Job.fromJSON>[1];

/** Characters of one envelope; the largest that a kernel here sends is less than half of it. More is not even parsed. */
const DATA_MAX = 2 * 2 ** 20;
/** Bytes in flight, as estimates from above: of a character while it is parsed, and of a value on its way out (as number, as text, in a reply, in a job). */
const CHARACTER_BYTES = 8;
const VALUE_BYTES = 160;
/** A string takes one byte for a character, or two. */
const bytesOf = (body: string): number => body.length * 2;

/** What a guest stored, without trusting it: its options and links are noted, then replaced by ours. */
function readStoredJob(json: StoredJob): { json: StoredJob; job: GuestJob } {
  const opts: unknown = json.opts;
  const given = new Map(typeof opts === 'object' && opts !== null ? Object.entries(opts) : []);
  const named = refusedOpts.find((name) => Boolean(given.get(name)));
  const linked = json.parentKey || json.parent ? 'parent' : json.repeatJobKey ? 'repeat' : null;
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
  return { json: clean, job: { text: json.data.length > DATA_MAX ? null : json.data, refused: named ?? linked } };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null; // refused as a malformed envelope
  }
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
  readonly worker: GuestQueueWorker;
  readonly #ledger: VcpuLedger<string>;
  readonly #budget: DomainBudget;
  /** Of the envelope in hand; given back when its job is completed. */
  #share: Share | null = null;
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
    this.#budget = options.budget ?? new DomainBudget();
    this.#ledger = new VcpuLedger({ bytesOf, domain: this.#budget.outcomes });
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
    for (const end of ['completed', 'failed'] as const) this.worker.on(end, () => this.#giveBack());
  }

  async #answer(job: Job<GuestJob, string>): Promise<string> {
    const jobId = job.id ?? '';
    this.counters.jobs++;
    this.#giveBack(); // the last job's, if its completion failed
    const body = await this.#outcome(jobId, job.data);
    job.data.text = null;
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
      const envelope = await this.#admit(jobId, job.text ?? '');
      if (this.#ledger.state(envelope.seq) !== 'new') this.counters.redelivered++;
      const outcome = this.#ledger.run(envelope.seq, () => this.#effect(envelope));
      if (outcome !== null) return await outcome;
      throw new TransportError('SEQ_TOO_OLD', `${envelope.seq} is no longer remembered; its outcome is unknown`);
    } catch (error) {
      if (!(error instanceof TransportError)) return this.#broken(error);
      if (error.code === 'BAD_ENVELOPE') this.counters.malformed++;
      else this.counters.refused++;
      return encodeTransportError(error);
    }
  }

  /** Reads the envelope once there is room for it, and again, from its text, if its answers turn out to need more room. */
  async #admit(jobId: string, text: string): Promise<Envelope> {
    const { inFlight } = this.#budget;
    const reading = text.length * CHARACTER_BYTES;
    this.#share = inFlight.tryTake(reading) ?? (await inFlight.take(reading));
    const envelope = this.#open(jobId, text);
    if (envelope.valueCount === 0) return envelope;
    this.#giveBack();
    const all = reading + envelope.valueCount * VALUE_BYTES;
    this.#share = inFlight.tryTake(all);
    if (this.#share) return envelope;
    return this.#openLater(jobId, text, all);
  }

  async #openLater(jobId: string, text: string, bytes: number): Promise<Envelope> {
    this.#share = await this.#budget.inFlight.take(bytes);
    return this.#open(jobId, text);
  }

  #giveBack(): void {
    if (this.#share) this.#budget.inFlight.give(this.#share);
    this.#share = null;
  }

  #open(jobId: string, text: string): Envelope {
    const envelope = decodeEnvelope(parsed(text));
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
    this.#giveBack();
    this.#ledger.close();
  }
}

/** Serves one vCPU's queue from now on. */
export async function startVcpuWorker(options: VcpuWorkerOptions): Promise<VcpuWorker> {
  const queue = new VcpuQueue(options);
  await queue.worker.waitUntilReady();
  return queue;
}
