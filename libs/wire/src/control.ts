// The rarely used queues: `boot` (toolstack → a guest agent) and `xl` (command line → toolstack). Request and reply, both
// checked by their schema on both sides. It decides nothing; a request that nobody took is withdrawn, one that somebody took
// and did not finish is *unknown*.

import { type Job, Queue, QueueEvents, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import type { z } from 'zod';
import {
  type BootReply,
  type BootRequest,
  bootReplySchema,
  bootRequestSchema,
  type XlReply,
  type XlRequest,
  xlReplySchema,
  xlRequestSchema,
} from './messages.ts';
import { bootQueue, hostPrefix, xlQueue } from './names.ts';

export interface ControlProtocol<Request, Reply> {
  readonly queue: string;
  readonly request: z.ZodType<Request>;
  readonly reply: z.ZodType<Reply>;
}

export const bootControl: ControlProtocol<BootRequest, BootReply> = {
  queue: bootQueue,
  request: bootRequestSchema,
  reply: bootReplySchema,
};
export const xlControl: ControlProtocol<XlRequest, XlReply> = {
  queue: xlQueue,
  request: xlRequestSchema,
  reply: xlReplySchema,
};

/** Finished jobs kept, so that a reply can be read late. */
const kept = { removeOnComplete: { count: 100 }, removeOnFail: { count: 100 } };
const POLL_MS = 250;

/** Nobody took the request in time; it was withdrawn and will never run. */
export class NobodyTook extends Error {
  override readonly name = 'NobodyTook';
}
/** The other side took the request and refused it, or failed in it. */
export class RequestFailed extends Error {
  override readonly name = 'RequestFailed';
}
/** The other side took the request and has not finished: it may yet. */
export class ReplyUnknown extends Error {
  override readonly name = 'ReplyUnknown';
}

const firstIssue = (error: z.ZodError): string => {
  const issue = error.issues[0];
  return `${issue?.path.join('.') || 'message'}: ${issue?.message ?? 'malformed'}`;
};

export interface ControlClient<Request, Reply> {
  /**
   * Rejects with NobodyTook, RequestFailed or ReplyUnknown. A request that nobody took within `timeoutMs` is withdrawn; one that
   * was taken may use `replyMs` in all.
   */
  request(payload: Request, timeoutMs: number, replyMs?: number): Promise<Reply>;
  close(): Promise<void>;
}

export async function openControl<Request, Reply>(
  connection: Redis,
  hostId: string,
  control: ControlProtocol<Request, Reply>,
): Promise<ControlClient<Request, Reply>> {
  const name = control.queue;
  const options = { connection, prefix: hostPrefix(hostId), skipVersionCheck: true };
  const queue = new Queue(name, { ...options, defaultJobOptions: { attempts: 1, ...kept } });
  const events = new QueueEvents(name, options);
  // One listener of each kind for every request under way.
  events.setMaxListeners(0);
  // Both reconnect; requests have a timeout.
  queue.on('error', () => {});
  events.on('error', () => {});
  await Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);
  return {
    request: async (payload, timeoutMs, replyMs = timeoutMs) => {
      const job = await queue.add(name, control.request.parse(payload));
      const value = await finished(queue, events, job, timeoutMs, replyMs);
      const parsed = control.reply.safeParse(value);
      if (!parsed.success) throw new RequestFailed(`${name}: malformed reply: ${firstIssue(parsed.error)}`);
      return parsed.data;
    },
    close: async () => {
      await Promise.all([queue.close(), events.close()]);
    },
  };
}

/**
 * Waits for the event that a job is done and looks at the job itself now and then: the event is rarely missed in a fresh
 * process. After `timeoutMs` a job that still waits is withdrawn.
 */
async function finished(
  queue: Queue,
  events: QueueEvents,
  job: Job,
  timeoutMs: number,
  replyMs: number,
): Promise<unknown> {
  const id = job.id ?? '';
  let wake: () => void = () => {};
  // The event may come while the job is being looked at: then the look is repeated at once.
  let done = false;
  const onDone = ({ jobId }: { jobId: string }): void => {
    if (jobId !== id) return;
    done = true;
    wake();
  };
  events.on('completed', onDone);
  events.on('failed', onDone);
  const started = performance.now();
  let deadline = started + timeoutMs;
  try {
    for (;;) {
      const now = await queue.getJob(id);
      if (now?.finishedOn !== undefined) {
        if (now.failedReason !== undefined) throw new RequestFailed(now.failedReason);
        return now.returnvalue;
      }
      const left = deadline - performance.now();
      if (left <= 0 && deadline < started + replyMs && (await job.isActive())) deadline = started + replyMs;
      else if (left <= 0) break;
      if (done) {
        done = false;
        continue;
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.max(0, Math.min(POLL_MS, left)));
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  } finally {
    events.off('completed', onDone);
    events.off('failed', onDone);
  }
  return withdraw(queue, id, Math.round(deadline - started));
}

/** A waiting job can be removed; one that is being worked on is locked and cannot. */
async function withdraw(queue: Queue, id: string, timeoutMs: number): Promise<unknown> {
  const removed = await queue.remove(id).catch(() => 0);
  if (removed === 1) throw new NobodyTook(`nobody took the ${queue.name} request within ${timeoutMs} ms`);
  throw new ReplyUnknown(`the ${queue.name} request is being worked on, but gave no reply within ${timeoutMs} ms`);
}

export interface ServeControlOptions<Request, Reply> {
  readonly connection: Redis;
  readonly hostId: string;
  readonly control: ControlProtocol<Request, Reply>;
  readonly concurrency?: number;
  readonly handler: (request: Request) => Promise<Reply>;
  readonly onError?: (error: Error) => void;
}

export interface ControlServer {
  /** Takes no further request (a guest agent that has its guest). */
  pause(): Promise<void>;
  resume(): Promise<void>;
  close(): Promise<void>;
}

export async function serveControl<Request, Reply>(
  options: ServeControlOptions<Request, Reply>,
): Promise<ControlServer> {
  const { connection, hostId, control, handler, onError = () => {}, concurrency = 1 } = options;
  const worker = new Worker(
    control.queue,
    async (job: Job<unknown>) => {
      const parsed = control.request.safeParse(job.data);
      if (!parsed.success) throw new Error(`malformed ${control.queue} request: ${firstIssue(parsed.error)}`);
      return handler(parsed.data);
    },
    {
      connection,
      prefix: hostPrefix(hostId),
      skipVersionCheck: true,
      concurrency,
      lockDuration: 5000,
      stalledInterval: 2000,
      maxStalledCount: 0,
      ...kept,
    },
  );
  worker.on('error', onError);
  await worker.waitUntilReady();
  return {
    pause: () => worker.pause(true),
    resume: () => worker.resume(),
    close: () => worker.close(true),
  };
}
