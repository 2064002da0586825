// What one hop over the queues costs: (a) no-op BullMQ jobs on 16 queues with one outstanding each, workers in one thread,
// completion noticed by the client through QueueEvents; (b) the same through HypercallClient and startVcpuWorker with a
// trivial handler; (c) as (a), with one hand-made reader over all event streams, the best that BullMQ's own events allow.
// Rounds alternate in one run, medians are compared. Prints JSON.

import { isMainThread, parentPort, Worker as Thread, workerData } from 'node:worker_threads';
import { Queue, QueueEvents, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import type { Call } from '#model/hypercall/calls';
import { connectGuest, connectWorkers, grantDomain, prepareGrants, removeKeys, type UserCredentials } from '#wire/acl';
import { connect, type RedisEndpoint } from '#wire/connection';
import { HypercallClient } from '#wire/hypercall-client';
import { hostKeyPattern } from '#wire/names';
import { startRedisServer } from '#wire/redis-server';
import { ReplyReader } from '#wire/reply-reader';
import { startVcpuWorker } from '#wire/vcpu-worker';

const QUEUES = 16;
const ROUNDS = 3;
const ROUND_MS = Number(process.env.WIRE_HOP_MS ?? 2000);
const hostId = 'bench';
const prefix = `{${hostId}}`;
const identity = { domid: 1, incarnation: 1, epoch: 'bench' };
const removal = { removeOnComplete: { count: 64 }, removeOnFail: { count: 64 } };
const call: Call = { op: 'touch', frames: { start: 1, count: 1 } };

interface ThreadData {
  readonly endpoint: RedisEndpoint;
  readonly worker: UserCredentials;
}

type Submit = (queue: number) => Promise<unknown>;
interface Subject {
  readonly submit: Submit;
  readonly close: () => Promise<void>;
}

const all = <T>(make: (index: number) => T): T[] => Array.from({ length: QUEUES }, (_, i) => make(i));

const eventKeys = all((i) => `${prefix}:plain${i}:events`);

/** The serving side of all subjects, in one thread. Idle workers of the others only wait. */
async function serve({ endpoint, worker }: ThreadData): Promise<void> {
  const plain = connect(endpoint);
  const options = { connection: plain, prefix, concurrency: 1, lockDuration: 5000, stalledInterval: 2000 };
  await Promise.all(
    all((i) => new Worker(`plain${i}`, async () => 0, { ...options, maxStalledCount: 0, ...removal }).waitUntilReady()),
  );
  const connection = connectWorkers(endpoint, worker);
  const handler = async () => [{ rc: 0 }];
  await Promise.all(all((vcpu) => startVcpuWorker({ connection, hostId, ...identity, vcpu, handler })));
  parentPort?.postMessage('ready');
}

function pendingJobs() {
  const pending = new Map<string, () => void>();
  let sequence = 0;
  return {
    done: (id: string): void => {
      pending.get(id)?.();
      pending.delete(id);
    },
    submit: (queue: Queue): Promise<void> => {
      const jobId = `p${process.hrtime.bigint()}-${sequence++}`;
      const settled = new Promise<void>((resolve) => pending.set(jobId, resolve));
      queue.add('call', { n: 1 }, { jobId, ...removal }).catch(() => process.exit(1));
      return settled;
    },
  };
}

async function plainQueues(endpoint: RedisEndpoint) {
  const connection = connect(endpoint);
  const queues = all((i) => new Queue(`plain${i}`, { connection, prefix }));
  await Promise.all(queues.map((queue) => queue.waitUntilReady()));
  return { connection, queues };
}

/** Where each queue's event stream ends: a reader that starts at `$` may miss the first event. */
const streamEnds = (redis: Redis): Promise<string[]> =>
  Promise.all(eventKeys.map(async (key) => (await redis.xrevrange(key, '+', '-', 'COUNT', 1))[0]?.[0] ?? '0'));

const at = <T>(list: readonly T[], index: number): T => list[index] as T; // always within QUEUES here

async function byQueueEvents(endpoint: RedisEndpoint): Promise<Subject> {
  const { connection, queues } = await plainQueues(endpoint);
  const jobs = pendingJobs();
  const ends = await streamEnds(connection);
  const events = all((i) => new QueueEvents(`plain${i}`, { connection, prefix, lastEventId: at(ends, i) }));
  for (const source of events) source.on('completed', ({ jobId }) => jobs.done(jobId));
  await Promise.all(events.map((source) => source.waitUntilReady()));
  return {
    submit: (queue) => jobs.submit(at(queues, queue)),
    close: async () => {
      await Promise.all([...events, ...queues].map((thing) => thing.close()));
      connection.disconnect();
    },
  };
}

async function byOneReader(endpoint: RedisEndpoint): Promise<Subject> {
  const { connection, queues } = await plainQueues(endpoint);
  const jobs = pendingJobs();
  const reader = connection.duplicate();
  const last = await streamEnds(connection);
  const read = async (): Promise<void> => {
    for (;;) {
      const answer = await reader.xread('COUNT', 64, 'BLOCK', 0, 'STREAMS', ...eventKeys, ...last);
      for (const [key, entries] of answer ?? []) {
        for (const [id, fields] of entries) {
          last[eventKeys.indexOf(key)] = id;
          if (fields[1] === 'completed') jobs.done(fields[3] ?? '');
        }
      }
    }
  };
  read().catch(() => {}); // ends with its connection
  return {
    submit: (queue) => jobs.submit(at(queues, queue)),
    close: async () => {
      reader.disconnect();
      await Promise.all(queues.map((queue) => queue.close()));
      connection.disconnect();
    },
  };
}

async function byHypercallClient(endpoint: RedisEndpoint, guest: UserCredentials, firstSeq: number): Promise<Subject> {
  const connection = await connectGuest(endpoint, guest);
  const replies = new ReplyReader(connection, hostId, 1);
  const clients = all(
    (vcpu) => new HypercallClient({ connection, replies, hostId, ...identity, vcpu, timeoutMs: 10_000, firstSeq }),
  );
  await Promise.all(clients.map((client) => client.ready()));
  return {
    submit: (queue) => at(clients, queue).send([call]),
    close: async () => {
      await Promise.all(clients.map((client) => client.close()));
      replies.close();
      connection.disconnect();
    },
  };
}

async function perSecond(submit: Submit, ms: number): Promise<number> {
  const start = performance.now();
  let jobs = 0;
  const lane = async (queue: number): Promise<void> => {
    while (performance.now() - start < ms) {
      await submit(queue);
      jobs++;
    }
  };
  await Promise.all(all(lane));
  return (jobs * 1000) / (performance.now() - start);
}

const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1] ?? Number.NaN;

async function main(): Promise<void> {
  const server = await startRedisServer();
  const admin = connect(server.endpoint);
  await prepareGrants(admin);
  const credentials = await grantDomain(admin, hostId, 1, 1);
  const data: ThreadData = { endpoint: server.endpoint, worker: credentials.worker };
  const thread = new Thread(new URL(import.meta.url), { workerData: data });
  await new Promise((resolve) => thread.once('message', resolve));
  const results = { queueEvents: [] as number[], oneReader: [] as number[], hypercall: [] as number[] };
  let firstSeq = 1;
  for (let round = 0; round < ROUNDS; round++) {
    const subjects: [number[], () => Promise<Subject>][] = [
      [results.queueEvents, () => byQueueEvents(server.endpoint)],
      [results.hypercall, () => byHypercallClient(server.endpoint, credentials.guest, firstSeq)],
      [results.oneReader, () => byOneReader(server.endpoint)],
    ];
    for (const [list, open] of subjects) {
      const subject = await open();
      await perSecond(subject.submit, ROUND_MS / 4); // warm up
      list.push(await perSecond(subject.submit, ROUND_MS));
      await subject.close();
    }
    firstSeq += 10_000_000;
  }
  const [a, b, c] = [results.queueEvents, results.hypercall, results.oneReader].map(median) as [number, number, number];
  const round = (n: number): number => Math.round(n * 100) / 100;
  const report = {
    queues: QUEUES,
    bullmqJobsPerSecond: Math.round(a),
    bullmqOneReaderJobsPerSecond: Math.round(c),
    hypercallsPerSecond: Math.round(b),
    ratio: round(b / a),
    ratioToOneReader: round(b / c),
  };
  process.stdout.write(`${JSON.stringify(report)}\n`);
  await thread.terminate();
  await removeKeys(admin, hostKeyPattern(hostId));
  admin.disconnect();
  await server.stop();
}

if (isMainThread) await main();
else await serve(workerData);
