import { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Call } from '#model/hypercall/calls';
import { errno } from '#model/hypercall/errno';
import { connectGuest, connectWorkers, type DomainCredentials, grantDomain, prepareGrants } from './acl.ts';
import { LOAD_MAX } from './call-table.ts';
import { connect } from './connection.ts';
import { DomainBudget } from './domain-budget.ts';
import { HypercallClient, type HypercallClientOptions, UnknownOutcome } from './hypercall-client.ts';
import { encodeEnvelope, encodeReply, type TransportError } from './messages.ts';
import { callJobId, hostPrefix, jobKey, replyChannel, vcpuQueue } from './names.ts';
import { type RedisServer, startRedisServer } from './redis-server.ts';
import { ReplyReader } from './reply-reader.ts';
import { type CallHandler, startVcpuWorker, type VcpuWorker, type VcpuWorkerOptions } from './vcpu-worker.ts';

const touch = (start: number): Call => ({ op: 'touch', frames: { start, count: 1 } });
const echo: CallHandler = ({ calls }) => calls.map((call) => ({ rc: call.op === 'touch' ? 7 : 0 }));
const never = new Promise<never>(() => {});

let server: RedisServer;
let admin: Redis;
let host = 0;
let hostId: string;
let credentials: DomainCredentials;
let open: { close(): unknown }[] = [];

beforeAll(async () => {
  server = await startRedisServer();
  admin = connect(server.endpoint);
  await prepareGrants(admin);
});
afterAll(async () => {
  admin.disconnect();
  await server.stop();
});
beforeEach(async () => {
  hostId = `h${++host}`;
  credentials = await grantDomain(admin, hostId, 1, 1);
});
afterEach(async () => {
  for (const thing of open.reverse()) await thing.close();
  open = [];
});

const keep = <T extends { close(): unknown }>(thing: T): T => {
  open.push(thing);
  return thing;
};

async function guestConnection(): Promise<Redis> {
  const redis = await connectGuest(server.endpoint, credentials.guest);
  keep({ close: () => redis.disconnect() });
  return redis;
}

async function worker(handler: CallHandler, more: Partial<VcpuWorkerOptions> = {}): Promise<VcpuWorker> {
  const connection = connectWorkers(server.endpoint, credentials.worker);
  keep({ close: () => connection.disconnect() });
  const identity = { domid: 1, vcpu: 0, incarnation: 1, epoch: 'aa' };
  return keep(await startVcpuWorker({ connection, hostId, ...identity, handler, ...more }));
}

async function client(more: Partial<HypercallClientOptions> = {}): Promise<HypercallClient> {
  const connection = more.connection ?? (await guestConnection());
  const identity = { domid: 1, vcpu: 0, incarnation: 1, epoch: 'aa' };
  const made = keep(new HypercallClient({ connection, hostId, ...identity, timeoutMs: 5000, ...more }));
  await made.ready();
  return made;
}

/** Puts a job into the vCPU's queue as a hostile guest might, and gives its recorded reply. */
async function inject(data: unknown, opts: Record<string, unknown>, connection: Redis): Promise<unknown> {
  const queue = keep(new Queue(vcpuQueue(1, 0), { connection, prefix: hostPrefix(hostId), skipVersionCheck: true }));
  const job = await queue.add('call', data, opts);
  return recorded(job.id ?? '');
}

async function recorded(jobId: string): Promise<unknown> {
  const key = jobKey(hostId, vcpuQueue(1, 0), jobId);
  const value = await vi.waitFor(async () => {
    const text = await admin.hget(key, 'returnvalue');
    if (text === null) throw new Error(`job ${jobId} has no outcome`);
    return text;
  }, 5000);
  return JSON.parse(JSON.parse(value));
}

describe('a hypercall over the queue', () => {
  it('is answered in order, call by call, with the identity of its queue', async () => {
    const seen: unknown[] = [];
    await worker(({ calls }, identity) => {
      seen.push(identity);
      return calls.map((call, i) => (call.op === 'load' ? { rc: 0, tags: [1, 2 ** 32 - 1] } : { rc: i }));
    });
    const c = await client();
    const answers = await c.send([touch(1), touch(2), { op: 'load', frames: { start: 0, count: 2 } }]);
    expect(answers).toEqual([{ rc: 0 }, { rc: 1 }, { rc: 0, tags: [1, 4294967295] }]);
    expect(seen).toEqual([{ domid: 1, vcpu: 0, incarnation: 1, epoch: 'aa' }]);
    expect(c.outstanding).toEqual([]);
  });

  it('runs one envelope of a vCPU at a time, in queue order', async () => {
    let running = 0;
    const order: number[] = [];
    await worker(async ({ seq }) => {
      expect(++running).toBe(1);
      await new Promise(setImmediate);
      order.push(seq);
      running--;
      return [{ rc: 0 }];
    });
    const c = await client();
    await Promise.all(Array.from({ length: 20 }, () => c.send([touch(0)])));
    expect(order).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
  });

  it('shares one reply reader among the vCPUs of a guest process', async () => {
    const connection = await guestConnection();
    const replies = keep(new ReplyReader(connection, hostId, 1));
    const answer =
      (rc: number): CallHandler =>
      () => [{ rc }];
    await worker(answer(10), { vcpu: 0 });
    await worker(answer(11), { vcpu: 1 });
    const clients = await Promise.all([0, 1].map((vcpu) => client({ connection, replies, vcpu })));
    expect(await Promise.all(clients.map((c) => c.send([touch(0)])))).toEqual([[{ rc: 10 }], [{ rc: 11 }]]);
  });

  it('answers malformed calls in their places while the others run, and counts them', async () => {
    const w = await worker(echo);
    const bad = { ...encodeEnvelope('aa', 1, 1, [touch(0)]) };
    bad.calls = [['touch', [0, 1]], ['touch', [-1, 1]], ['touch', { p: 'AAA' }], ['no_such_op'], 7, ['touch', [0, 1]]];
    const reply = await inject(bad, { jobId: callJobId('aa', 1, 1) }, await guestConnection());
    expect(reply).toEqual({ a: [7, -errno.EINVAL, -errno.EFAULT, -errno.ENOSYS, -errno.EFAULT, 7] });
    expect(w.counters).toMatchObject({ calls: 2, malformed: 4, errors: 0 });
  });
});

describe('the transport refuses, with no effect', () => {
  const good = () => encodeEnvelope('aa', 1, 5, [touch(0)]);
  it.each([
    ['a priority', { priority: 3 }],
    ['a place at the front', { lifo: true }],
    ['a delay', { delay: 1 }],
  ])('%s', async (_, opts) => {
    const handler = vi.fn(echo);
    const w = await worker(handler);
    const reply = await inject(good(), { jobId: callJobId('aa', 1, 5), ...opts }, connect(server.endpoint));
    expect(reply).toMatchObject({ t: ['REFUSED_OPTS', expect.any(String)] });
    expect(handler).not.toHaveBeenCalled();
    expect(w.counters.refused).toBe(1);
  });

  it.each([
    ['an older epoch', encodeEnvelope('bb', 1, 5, []), 'STALE_EPOCH'],
    ['an older incarnation', encodeEnvelope('aa', 9, 5, []), 'STALE_INCARNATION'],
    ['an envelope without calls', { epoch: 'aa', incarnation: 1, seq: 5 }, 'BAD_ENVELOPE'],
    ['more than 4096 calls', { ...good(), calls: new Array(4097).fill(0) }, 'BAD_ENVELOPE'],
    ['a sequence number that is not a number', { ...good(), seq: 'x' }, 'BAD_ENVELOPE'],
    ["a sequence number other than its job's", encodeEnvelope('aa', 1, 6, []), 'BAD_ENVELOPE'],
    ['null', null, 'BAD_ENVELOPE'],
  ])('%s', async (_, data, code) => {
    const handler = vi.fn(echo);
    await worker(handler);
    const reply = await inject(data, { jobId: callJobId('aa', 1, 5) }, await guestConnection());
    expect(reply).toMatchObject({ t: [code, expect.any(String)] });
    expect(handler).not.toHaveBeenCalled();
  });

  it('a client of an older epoch, which learns it as a typed error', async () => {
    await worker(echo);
    const c = await client({ epoch: 'old' });
    await expect(c.send([touch(0)])).rejects.toMatchObject({ name: 'TransportError', code: 'STALE_EPOCH' });
  });

  it('a sequence number that is no longer remembered', async () => {
    await worker(echo);
    const connection = await guestConnection();
    await inject(encodeEnvelope('aa', 1, 100, []), { jobId: callJobId('aa', 1, 100) }, connection);
    const late = await inject(encodeEnvelope('aa', 1, 36, []), { jobId: callJobId('aa', 1, 36) }, connection);
    expect(late).toMatchObject({ t: ['SEQ_TOO_OLD', expect.any(String)] });
  });
});

describe('what a hostile guest can store', () => {
  const wait = () => `${hostPrefix(hostId)}:${vcpuQueue(1, 0)}:wait`;
  const raw = (id: string) => jobKey(hostId, vcpuQueue(1, 0), id);
  const wake = (redis: Redis) => redis.zadd(`${hostPrefix(hostId)}:${vcpuQueue(1, 0)}:marker`, 0, '0');

  it('data that is no JSON is answered as a malformed envelope, and the queue goes on', async () => {
    const w = await worker(echo);
    const guest = await guestConnection();
    await guest.hset(raw('evil'), { name: 'x', data: '{not json', opts: '{}', timestamp: 1 });
    await guest.lpush(wait(), 'evil');
    await wake(guest);
    expect(await recorded('evil')).toMatchObject({ t: ['BAD_ENVELOPE', expect.any(String)] });
    expect(await (await client()).send([touch(0)])).toEqual([{ rc: 7 }]);
    expect(w.counters.malformed).toBe(1);
  });

  it('a parent in another domain is not reached: the worker has no right to it', async () => {
    const stranger = `${hostPrefix(hostId)}:d2v0:parent`;
    await admin.sadd(`${stranger}:dependencies`, raw('evil'));
    const w = await worker(echo);
    const guest = await guestConnection();
    const envelope = JSON.stringify(encodeEnvelope('aa', 1, 1, [touch(0)]));
    await guest.hset(raw('evil'), { name: 'x', data: envelope, opts: '{}', timestamp: 1, parentKey: stranger });
    await guest.lpush(wait(), 'evil');
    await wake(guest);
    await vi.waitFor(() => expect(w.counters).toMatchObject({ jobs: 1, refused: 1 }), 5000);
    await vi.waitFor(() => expect(w.counters.errors).toBeGreaterThan(0), 5000);
    expect(await admin.smembers(`${stranger}:dependencies`)).toEqual([raw('evil')]);
    expect(await (await client()).send([touch(0)])).toEqual([{ rc: 7 }]);
  });

  it('a queue key of the wrong type costs the hypervisor a few errors a second, not a busy loop', async () => {
    const guest = await guestConnection();
    await guest.incr(wait());
    const w = await worker(echo);
    await wake(guest);
    await vi.waitFor(() => expect(w.counters.errors).toBeGreaterThanOrEqual(10), 5000);
    const before = w.counters.errors;
    await new Promise((resolve) => setTimeout(resolve, 500)); // a span of time is what is measured here
    expect(w.counters.errors - before).toBeLessThan(30);
  });
});

describe('a domain’s room in flight', () => {
  it('is shared by its vCPUs: large envelopes wait for each other, and all are answered', async () => {
    const budget = new DomainBudget();
    let running = 0;
    let most = 0;
    const handler: CallHandler = async ({ calls }) => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 20)); // time in which others would run, if they were let
      running--;
      return calls.map(() => ({ rc: 0, tags: [] }));
    };
    const wide: Call[] = new Array(4).fill({ op: 'load', frames: { start: 0, count: LOAD_MAX } });
    const connection = await guestConnection();
    const replies = keep(new ReplyReader(connection, hostId, 1));
    const clients: HypercallClient[] = [];
    for (let vcpu = 0; vcpu < 6; vcpu++) {
      await worker(handler, { vcpu, budget });
      clients.push(await client({ connection, replies, vcpu }));
    }
    const answers = await Promise.all(clients.map((c) => c.send(wide)));
    expect(answers.map((a) => a.length)).toEqual([4, 4, 4, 4, 4, 4]);
    expect(most).toBe(1);
    expect(await Promise.all(clients.map((c) => c.send([touch(1)])))).toHaveLength(6);
    expect(most).toBeGreaterThan(1);
    await vi.waitFor(() => expect(budget.inFlight.bytes).toBe(0), 5000);
  });
});

describe('exactly one effect', () => {
  it('a timeout is unknown; asking again attaches to the call in flight', async () => {
    let finish = (): void => {};
    const handler = vi.fn(() => new Promise<{ rc: number }[]>((resolve) => (finish = () => resolve([{ rc: 3 }]))));
    await worker(handler);
    const c = await client({ timeoutMs: 100 });
    const error = await c.send([touch(0)]).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UnknownOutcome);
    expect(c.outstanding).toEqual([1]);
    const again = c.retry(1);
    finish();
    expect(await again).toEqual([{ rc: 3 }]);
    expect(handler).toHaveBeenCalledTimes(1);
    expect(c.outstanding).toEqual([]);
  });

  it('a reply that was lost is read from the finished job', async () => {
    const handler = vi.fn(echo);
    await worker(handler);
    const connection = await guestConnection();
    const replies = keep(new ReplyReader(connection, hostId, 1));
    await replies.ready;
    const c = await client({ connection, replies, timeoutMs: 300 });
    replies.forget(0); // nobody hears the reply
    expect(await c.send([touch(0)])).toEqual([{ rc: 7 }]); // found when the time was up
    expect(handler).toHaveBeenCalledTimes(1);
  });

  it('a job whose record in Redis is gone is delivered again and answered from the ledger', async () => {
    let finish = (): void => {};
    const handler = vi.fn(() => new Promise<{ rc: number }[]>((resolve) => (finish = () => resolve([{ rc: 3 }]))));
    const w = await worker(handler);
    const connection = await guestConnection();
    const replies = keep(new ReplyReader(connection, hostId, 1));
    const c = await client({ connection, replies, timeoutMs: 100 });
    await expect(c.send([touch(0)])).rejects.toBeInstanceOf(UnknownOutcome);
    finish();
    await recorded(callJobId('aa', 1, 1));
    await admin.del(jobKey(hostId, vcpuQueue(1, 0), callJobId('aa', 1, 1)));
    expect(await c.retry(1)).toEqual([{ rc: 3 }]);
    expect(handler).toHaveBeenCalledTimes(1);
    expect(w.counters.redelivered).toBe(1);
  });

  it('a job that BullMQ declared stalled runs no second time', async () => {
    let finish = (): void => {};
    const handler = vi.fn(() => new Promise<{ rc: number }[]>((resolve) => (finish = () => resolve([{ rc: 4 }]))));
    const w = await worker(handler);
    const c = await client({ timeoutMs: 200 });
    await expect(c.send([touch(0)])).rejects.toBeInstanceOf(UnknownOutcome);
    const id = callJobId('aa', 1, 1);
    const key = (what: string) => `${hostPrefix(hostId)}:${vcpuQueue(1, 0)}:${what}`;
    // What the stalled check does to a job whose lock ran out.
    await admin
      .multi()
      .del(`${key(id)}:lock`)
      .lrem(key('active'), 0, id)
      .zadd(key('failed'), 1, id)
      .exec();
    await admin.hset(key(id), { finishedOn: 1, failedReason: 'stalled' });
    const again = c.retry(1);
    finish();
    expect(await again).toEqual([{ rc: 4 }]);
    expect(handler).toHaveBeenCalledTimes(1);
    expect(w.counters.jobs).toBe(2);
  });

  it('replies that passed while the connection was away are looked up when it is back', async () => {
    let finish = (): void => {};
    const handler = vi.fn(() => new Promise<{ rc: number }[]>((resolve) => (finish = () => resolve([{ rc: 5 }]))));
    await worker(handler);
    const c = await client({ timeoutMs: 10_000 });
    const answer = c.send([touch(0)]);
    await vi.waitFor(() => expect(handler).toHaveBeenCalled());
    // Only the subscriber is cut; while it is away the reply passes.
    await admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
    finish();
    expect(await answer).toEqual([{ rc: 5 }]);
  });

  it('a handler that throws is recorded as failed, and the queue goes on', async () => {
    let first = true;
    const handler = vi.fn((): { rc: number }[] => {
      if (!first) return [{ rc: 0 }];
      first = false;
      throw new Error('bug');
    });
    const errors: Error[] = [];
    await worker(handler, { onError: (error) => errors.push(error) });
    const c = await client();
    const failed: TransportError = await c.send([touch(0)]).then(
      () => expect.unreachable(),
      (error) => error,
    );
    expect(failed.code).toBe('HANDLER_FAILED');
    expect(errors.map((e) => e.message)).toEqual(['bug']);
    expect(await c.send([touch(0)])).toEqual([{ rc: 0 }]);
  });

  it('a client that closes leaves its calls unknown, and a worker closes over a call that never ends', async () => {
    const w = await worker(() => never);
    const c = await client();
    const lost = expect(c.send([touch(0)])).rejects.toBeInstanceOf(UnknownOutcome);
    await vi.waitFor(() => expect(w.counters.jobs).toBe(1));
    await c.close();
    await lost;
    await w.close();
  });

  it('sends no more envelopes than the hypervisor remembers', async () => {
    await worker(() => never);
    const c = await client();
    const sent = Array.from({ length: 64 }, () => c.send([touch(0)]).catch((e: unknown) => e));
    await expect(c.send([touch(0)])).rejects.toBeInstanceOf(RangeError);
    await c.close();
    expect((await Promise.all(sent)).every((e) => e instanceof UnknownOutcome)).toBe(true);
  });
});

describe('a domain’s rights', () => {
  it('do not reach another domain’s queue, replies or keys, nor the server', async () => {
    const guest = await guestConnection();
    const other = await grantDomain(admin, hostId, 10, 1);
    expect(other.guest.username).not.toBe(credentials.guest.username);
    await expect(client({ connection: guest, domid: 10, timeoutMs: 500 })).rejects.toThrow(/NOPERM/);
    const queue = new Queue('d10v0', { connection: guest, prefix: hostPrefix(hostId), skipVersionCheck: true });
    queue.on('error', () => {});
    await expect(queue.add('call', {}, { jobId: 'x' })).rejects.toThrow(/NOPERM|ACL/);
    expect(await admin.keys(`${hostPrefix(hostId)}:d10v0:*`)).toEqual([]);
    await queue.close();
    const refused: [string, ...string[]][] = [
      ['EVAL', 'return 1', '0'],
      ['SCRIPT', 'FLUSH'],
      ['KEYS', '*'],
      ['SCAN', '0'],
      ['FLUSHALL'],
      ['CONFIG', 'GET', '*'],
      ['INFO'],
      ['PUBLISH', replyChannel(hostId, 1), encodeReply(0, 'x', '{}')],
      ['SUBSCRIBE', replyChannel(hostId, 10)],
      ['PSUBSCRIBE', '*'],
      ['GET', `${hostPrefix(hostId)}:d10v0:meta`],
      ['HSET', `${hostPrefix(hostId)}:d1:xs-toolstack`, 'memory/target', '1'],
      ['SET', `${hostPrefix(hostId)}:epoch`, 'mine'],
    ];
    for (const [command, ...args] of refused) {
      await expect(guest.call(command, ...args), command).rejects.toThrow(/NOPERM/);
    }
  });
});
