// What stands beside the hypervisor's own figures, read from Redis: how much waits in each queue, which processes the launcher
// started, what each guest's target is and when it was last heard of.
import type { Redis } from 'ioredis';
import type { LiveSlow } from '#wire/live';
import { bootQueue, guestQueue, heartbeatKey, hvQueue, vcpuQueue, xenstoreKey, xlQueue } from '#wire/names';
import { readRoster } from '#wire/process-roster';
import { queueDepths } from '#wire/queue-depth';

const TARGET = 'memory/target';
const UNHEARD = -1;

interface Beat {
  count: string | null;
  atMs: number;
}

export class SideFigures {
  private readonly redis: Redis;
  private readonly hostId: string;
  private readonly beats = new Map<number, Beat>();

  constructor(redis: Redis, hostId: string) {
    this.redis = redis;
    this.hostId = hostId;
  }

  /** `domains`: those there are, with their vCPUs. */
  async look(domains: readonly { readonly domid: number; readonly vcpus: number }[]): Promise<LiveSlow> {
    const { redis, hostId } = this;
    const names = [
      xlQueue,
      bootQueue,
      hvQueue,
      ...domains.flatMap(({ domid, vcpus }) => [
        ...Array.from({ length: vcpus }, (_, vcpu) => vcpuQueue(domid, vcpu)),
        guestQueue(domid),
      ]),
    ];
    const began = performance.now();
    await redis.ping();
    const redisPingMs = performance.now() - began;
    const [queues, processes, guests] = await Promise.all([
      queueDepths(redis, hostId, names),
      readRoster(redis, hostId),
      Promise.all(domains.map(({ domid }) => this.guest(domid))),
    ]);
    for (const domid of this.beats.keys()) if (!domains.some((d) => d.domid === domid)) this.beats.delete(domid);
    return { kind: 'slow', queues, processes, guests, redisPingMs };
  }

  private async guest(domid: number): Promise<LiveSlow['guests'][number]> {
    const [target, count] = await Promise.all([
      this.redis.hget(xenstoreKey(this.hostId, domid, 'toolstack'), TARGET),
      this.redis.get(heartbeatKey(this.hostId, domid)),
    ]);
    const now = performance.now();
    const beat = this.beats.get(domid);
    if (!beat || beat.count !== count) this.beats.set(domid, { count, atMs: now });
    const heartbeatMs = count === null ? UNHEARD : now - (this.beats.get(domid)?.atMs ?? now);
    return { domid, targetKb: Number(target ?? 0), heartbeatMs };
  }
}
