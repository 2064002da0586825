// How much waits in a host's queues, read from BullMQ's own lists in one round trip. It opens no queue and takes nothing out.
import type { Redis } from 'ioredis';
import { hostPrefix } from './names.ts';

export interface QueueDepth {
  readonly name: string;
  readonly waiting: number;
  readonly active: number;
  readonly failed: number;
}

export async function queueDepths(redis: Redis, hostId: string, names: readonly string[]): Promise<QueueDepth[]> {
  if (names.length === 0) return [];
  const pipeline = redis.pipeline();
  for (const name of names) {
    const queue = `${hostPrefix(hostId)}:${name}`;
    pipeline.llen(`${queue}:wait`).llen(`${queue}:active`).zcard(`${queue}:failed`);
  }
  const answers = (await pipeline.exec()) ?? [];
  const count = (i: number): number => Number(answers[i]?.[1] ?? 0);
  return names.map((name, i) => ({
    name,
    waiting: count(i * 3),
    active: count(i * 3 + 1),
    failed: count(i * 3 + 2),
  }));
}
