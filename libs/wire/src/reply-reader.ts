// A guest process's one reader of replies, for all its vCPUs: a subscription to the domain's reply channel. It hands each reply
// to whoever waits for that job, and says when replies may have been missed (the connection was away), so that those who wait
// can look the outcome up in the job itself. It knows no call.
//
// Measured for 16 queues with one call outstanding each (no-op jobs/s, two cores): BullMQ's QueueEvents 5.4-5.6 k, one reader
// over all event streams 7.0-7.3 k, a reply stream 8.1-8.8 k, a reply list 8.5-8.8 k, pub/sub 9.1-9.5 k. Event streams wake
// their reader three times a job. What pub/sub can lose, the job's recorded outcome makes up for.

import type { Redis } from 'ioredis';
import { replySchema } from './messages.ts';
import { replyChannel } from './names.ts';

export interface ReplyListener {
  onReply(jobId: string, body: unknown): void;
  /** The connection was away: replies may have passed. */
  onGap(): void;
}

export class ReplyReader {
  readonly #redis: Redis;
  readonly #listeners = new Map<number, ReplyListener>();
  /** Settles when replies are being received; send nothing before. */
  readonly ready: Promise<void>;

  /** Takes a connection of its own from `connection`'s options. */
  constructor(connection: Redis, hostId: string, domid: number) {
    this.#redis = connection.duplicate();
    this.#redis.on('error', () => {}); // it reconnects; what was missed is looked up
    this.#redis.on('message', (_channel, text) => this.#deliver(text));
    this.ready = this.#redis.subscribe(replyChannel(hostId, domid)).then(() => {
      this.#redis.on('ready', () => void this.#afterGap(replyChannel(hostId, domid)));
    });
    this.ready.catch(() => {}); // reported to whoever awaits it
  }

  listen(vcpu: number, listener: ReplyListener): void {
    this.#listeners.set(vcpu, listener);
  }

  forget(vcpu: number): void {
    this.#listeners.delete(vcpu);
  }

  close(): void {
    this.#redis.disconnect();
  }

  async #afterGap(channel: string): Promise<void> {
    try {
      await this.#redis.subscribe(channel); // answered only once the subscription stands
    } catch {
      return; // closed meanwhile
    }
    for (const listener of this.#listeners.values()) listener.onGap();
  }

  #deliver(text: string): void {
    const reply = replySchema.safeParse(JSON.parse(text));
    if (reply.success) this.#listeners.get(reply.data.v)?.onReply(reply.data.j, reply.data.r);
  }
}
