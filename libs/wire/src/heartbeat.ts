// A guest's signs of life: the guest process counts up a key, the toolstack notes when it stops counting for N seconds in which
// Redis could be asked. It decides nothing: a missing heartbeat is only reported.

import type { Redis } from 'ioredis';
import { heartbeatKey } from './names.ts';
import { type Poll, pollKey } from './redis-time.ts';

export interface HeartbeatOptions {
  readonly redis: Redis;
  readonly hostId: string;
  readonly domid: number;
  readonly everyMs: number;
}

/** Beats until stopped. A beat that Redis does not take is dropped, not queued. */
export function startHeartbeat({ redis, hostId, domid, everyMs }: HeartbeatOptions): Poll {
  const key = heartbeatKey(hostId, domid);
  const beat = (): void => {
    if (redis.status === 'ready') redis.incr(key).catch(() => {});
  };
  const timer = setInterval(beat, everyMs);
  beat();
  return { stop: () => clearInterval(timer) };
}

export interface WatchHeartbeatOptions extends HeartbeatOptions {
  /** Reachable time without a beat after which the guest counts as missing. */
  readonly missingMs: number;
  /** Called once. */
  readonly onMissing: (missingMs: number) => void;
}

/** `everyMs` is how often to look; the first beat is waited for as long as any other. */
export function watchHeartbeat(options: WatchHeartbeatOptions): Poll {
  const { redis, hostId, domid, everyMs, missingMs, onMissing } = options;
  let last: string | null = null;
  let missing = 0;
  const poll = pollKey(heartbeatKey(hostId, domid), {
    redis,
    everyMs,
    onAnswer: (count, reachableMs) => {
      missing = count === last ? missing + reachableMs : 0;
      last = count;
      if (missing < missingMs) return;
      poll.stop();
      onMissing(missing);
    },
  });
  return poll;
}
