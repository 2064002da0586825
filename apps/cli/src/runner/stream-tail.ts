// Follows one of a host's streams from its first record: hands records on as they come, counts those that were lost, and can say
// when everything that was ever written has been handed on. It knows no record's format.
import type { Redis } from 'ioredis';
import { type StreamName, streamKey } from '#wire/names';
import { readStream } from '#wire/streams';

const LOOK_MS = 10;

export class StreamTail {
  /** Records that were written and never came. */
  missing = 0;
  readonly #redis: Redis;
  readonly #key: string;
  readonly #ended: Promise<void>;
  readonly #closing = new AbortController();
  #last = '0-0';

  constructor(redis: Redis, hostId: string, name: StreamName, onRecord: (record: Buffer) => void) {
    this.#redis = redis;
    this.#key = streamKey(hostId, name);
    const { signal } = this.#closing;
    this.#ended = (async () => {
      for await (const { records, missing, id } of readStream({ redis, hostId, name, from: 'start', signal })) {
        this.missing += missing;
        for (const record of records) onRecord(record);
        this.#last = id;
      }
    })().catch(() => {}); // Redis is gone: what came is all there is
  }

  /** Until the newest entry was handed on, at most `timeoutMs`. True if it was. */
  async drained(timeoutMs: number): Promise<boolean> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const newest = await this.#redis.xrevrange(this.#key, '+', '-', 'COUNT', 1).catch(() => null);
      if (newest === null) return false;
      if (newest.length === 0 || newest[0]?.[0] === this.#last) return true;
      if (performance.now() > deadline) return false;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#ended;
  }
}
