// Measures absence in time during which Redis could be asked: a server that was away for a minute has not made anyone miss a
// heartbeat. It asks by polling; what it asks for is the caller's.

import type { Redis } from 'ioredis';

export interface Poll {
  stop(): void;
}

export interface PollOptions {
  readonly redis: Redis;
  readonly everyMs: number;
  /** Called after each answer, with the reachable time since the answer before (0 for the first). */
  readonly onAnswer: (value: string | null, reachableMs: number) => void;
  /** Called instead while Redis does not answer, with the time it has not answered. */
  readonly onSilence?: (silentMs: number) => void;
}

/** Asks for `key` every `everyMs`; one question at a time, none queued while the connection is away. */
export function pollKey(key: string, { redis, everyMs, onAnswer, onSilence }: PollOptions): Poll {
  let stopped = false;
  let asking = false;
  let lastAnswer = 0;
  let silentSince = performance.now();
  const tick = async (): Promise<void> => {
    const now = performance.now();
    if (asking || redis.status !== 'ready') {
      lastAnswer = 0;
      onSilence?.(now - silentSince);
      return;
    }
    asking = true;
    const value = await redis.get(key).catch(() => undefined);
    asking = false;
    if (stopped || value === undefined) return;
    const answered = performance.now();
    // A pause of this process is nobody else's silence: count no more than the polls that were due.
    const reachableMs = lastAnswer === 0 ? 0 : Math.min(answered - lastAnswer, 2 * everyMs);
    lastAnswer = answered;
    silentSince = answered;
    onAnswer(value, reachableMs);
  };
  const timer = setInterval(() => void tick(), everyMs);
  void tick();
  return {
    stop: () => {
      stopped = true;
      clearInterval(timer);
    },
  };
}
