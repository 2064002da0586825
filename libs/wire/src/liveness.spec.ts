import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { connect } from './connection.ts';
import { holdEpoch, newEpoch, readEpoch, watchEpoch } from './epoch.ts';
import { startHeartbeat, watchHeartbeat } from './heartbeat.ts';
import { epochKey } from './names.ts';
import { type RedisServer, startRedisServer } from './redis-server.ts';

let server: RedisServer;
let redis: Redis;
beforeAll(async () => {
  server = await startRedisServer();
  redis = connect(server.endpoint);
  await redis.ping();
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe('the epoch of a hypervisor', () => {
  it('outlives its time while it is held, and ends at once when withdrawn', async () => {
    const epoch = newEpoch();
    const holder = await holdEpoch({ redis, hostId: 'a', epoch, ttlMs: 150 });
    const onGone = vi.fn();
    watchEpoch({ redis, hostId: 'a', epoch, onGone, pollMs: 20 });
    await sleep(400); // several times its time: what is shown is that nothing happens
    expect(await readEpoch(redis, 'a')).toBe(epoch);
    expect(onGone).not.toHaveBeenCalled();
    await holder.stop();
    await vi.waitFor(() => expect(onGone).toHaveBeenCalledWith(expect.stringContaining('is gone')));
  });

  it('is over for its watchers when the holder dies, or another takes the host', async () => {
    await redis.set(epochKey('b'), 'dead', 'PX', 100); // a holder that was killed refreshes no more
    const onGone = vi.fn();
    watchEpoch({ redis, hostId: 'b', epoch: 'dead', onGone, pollMs: 20 });
    await vi.waitFor(() => expect(onGone).toHaveBeenCalledTimes(1), 2000);
    const next = await holdEpoch({ redis, hostId: 'b', epoch: 'next' });
    watchEpoch({ redis, hostId: 'b', epoch: 'dead', onGone, pollMs: 20 });
    await vi.waitFor(() => expect(onGone).toHaveBeenLastCalledWith(expect.stringContaining('new hypervisor')));
    await next.stop();
  });

  it('cannot be held twice for one host', async () => {
    const first = await holdEpoch({ redis, hostId: 'c', epoch: 'one' });
    await expect(holdEpoch({ redis, hostId: 'c', epoch: 'two' })).rejects.toThrow(/has a hypervisor already/);
    await first.stop();
  });
});

describe('a heartbeat', () => {
  it('is missed only after it stopped, and once', async () => {
    const options = { redis, hostId: 'a', domid: 1, everyMs: 20 };
    const heart = startHeartbeat(options);
    const onMissing = vi.fn();
    watchHeartbeat({ ...options, missingMs: 200, onMissing });
    await sleep(400); // what is shown is that nothing happens
    expect(onMissing).not.toHaveBeenCalled();
    heart.stop();
    await vi.waitFor(() => expect(onMissing).toHaveBeenCalledTimes(1), 2000);
  });

  it('is not missed while Redis is away: only reachable time counts; a Redis that stays away ends the epoch', async () => {
    const own = await startRedisServer();
    const away = connect(own.endpoint);
    await away.ping();
    const onMissing = vi.fn();
    const onGone = vi.fn();
    await away.set(epochKey('d'), 'e');
    watchHeartbeat({ redis: away, hostId: 'd', domid: 1, everyMs: 20, missingMs: 150, onMissing });
    watchEpoch({ redis: away, hostId: 'd', epoch: 'e', onGone, pollMs: 20, unreachableMs: 400 });
    await own.stop();
    await vi.waitFor(
      () => expect(onGone).toHaveBeenCalledWith(expect.stringContaining('Redis has not answered')),
      3000,
    );
    expect(onMissing).not.toHaveBeenCalled();
    away.disconnect();
  });
});
