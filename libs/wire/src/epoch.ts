// A hypervisor's life: each start makes a new epoch and holds it in a key that expires. When the key is gone or another's, that
// hypervisor is gone, and with it every table and domain. It knows nothing of what follows from that.

import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import { epochKey } from './names.ts';
import { type Poll, pollKey } from './redis-time.ts';

export const EPOCH_TTL_MS = 3000;

export const newEpoch = (): string => randomBytes(8).toString('hex');

export interface EpochHolder {
  readonly epoch: string;
  /** Withdraws the epoch: watchers notice at once, not after the key's time. */
  stop(): Promise<void>;
}

export interface HoldEpochOptions {
  readonly redis: Redis;
  readonly hostId: string;
  readonly epoch: string;
  readonly ttlMs?: number;
  /** The key became another's: this hypervisor must end. */
  readonly onLost?: (holder: string) => void;
}

/** Announces a hypervisor. Throws if another one holds this host id. */
export async function holdEpoch(options: HoldEpochOptions): Promise<EpochHolder> {
  const { redis, hostId, epoch, ttlMs = EPOCH_TTL_MS, onLost } = options;
  const key = epochKey(hostId);
  if ((await redis.set(key, epoch, 'PX', ttlMs, 'NX')) === null) {
    throw new Error(`host ${hostId} has a hypervisor already (epoch ${await redis.get(key)}): choose another host id`);
  }
  const refresh = async (): Promise<void> => {
    // One step: an expired key is taken again, another's is left alone.
    const before = await redis.set(key, epoch, 'PX', ttlMs, 'NX', 'GET');
    if (before === epoch) await redis.pexpire(key, ttlMs);
    else if (before !== null) onLost?.(before);
  };
  const timer = setInterval(() => void refresh().catch(() => {}), ttlMs / 3);
  return {
    epoch,
    stop: async () => {
      clearInterval(timer);
      if ((await redis.get(key)) === epoch) await redis.del(key);
    },
  };
}

export const readEpoch = (redis: Redis, hostId: string): Promise<string | null> => redis.get(epochKey(hostId));

export interface WatchEpochOptions {
  readonly redis: Redis;
  readonly hostId: string;
  readonly epoch: string;
  /** Called once, with a sentence that says why. */
  readonly onGone: (why: string) => void;
  readonly pollMs?: number;
  /** Redis itself silent for so long counts as gone: a private server dies with its host. */
  readonly unreachableMs?: number;
}

/** Tells when the hypervisor of `epoch` is gone. The expiry runs in the server, so that its absence is no loss of ours. */
export function watchEpoch(options: WatchEpochOptions): Poll {
  const { redis, hostId, epoch, onGone, pollMs = EPOCH_TTL_MS / 6, unreachableMs = 30_000 } = options;
  const gone = (why: string): void => {
    poll.stop();
    onGone(why);
  };
  const poll = pollKey(epochKey(hostId), {
    redis,
    everyMs: pollMs,
    onAnswer: (holder) => {
      if (holder === null) gone(`the hypervisor of host ${hostId} is gone (epoch ${epoch} expired)`);
      else if (holder !== epoch) gone(`host ${hostId} has a new hypervisor (epoch ${holder}); epoch ${epoch} is over`);
    },
    onSilence: (silentMs) => {
      if (silentMs > unreachableMs) gone(`Redis has not answered for ${Math.round(silentMs / 1000)} s`);
    },
  });
  return poll;
}
