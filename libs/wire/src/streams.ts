// Telemetry over Redis Streams: small records gathered into binary chunks, one stream entry each. Under pressure records are
// dropped and counted, never waited for: telemetry may not slow what it observes. It knows no record's format.
//
// Every record has an index; dropped ones use up theirs. So one number per chunk tells a reader what it did not get, whether
// the writer dropped it or the server trimmed it (MAXLEN) before it was read.

import type { Redis } from 'ioredis';
import { type StreamName, streamKey } from './names.ts';

export interface StreamWriterOptions {
  readonly redis: Redis;
  readonly hostId: string;
  readonly name: StreamName;
  /** A chunk is sent when it holds this many bytes, or is this old. */
  readonly chunkBytes?: number;
  readonly chunkMs?: number;
  /** Bytes handed to Redis and not yet taken, beyond which records are dropped. */
  readonly pendingMax?: number;
  /** Chunks that the server keeps, about. */
  readonly chunksKept?: number;
}

const LENGTH_BYTES = 4;

export class StreamWriter {
  readonly #redis: Redis;
  readonly #key: string;
  readonly #chunkBytes: number;
  readonly #chunkMs: number;
  readonly #pendingMax: number;
  readonly #chunksKept: number;
  #parts: Buffer[] = [];
  #bytes = 0;
  #first = 0;
  #next = 0;
  #pending = 0;
  #timer: NodeJS.Timeout | undefined;
  readonly #inFlight = new Set<Promise<void>>();
  /** Records that no reader will see. */
  dropped = 0;

  constructor(options: StreamWriterOptions) {
    this.#redis = options.redis;
    this.#key = streamKey(options.hostId, options.name);
    this.#chunkBytes = options.chunkBytes ?? 64 * 1024;
    this.#chunkMs = options.chunkMs ?? 50;
    this.#pendingMax = options.pendingMax ?? 8 * 1024 * 1024;
    this.#chunksKept = options.chunksKept ?? 1024;
  }

  /** Never waits, never throws. */
  push(record: Uint8Array | string): void {
    const index = this.#next++;
    const body = typeof record === 'string' ? Buffer.from(record) : Buffer.from(record); // a copy in both cases
    if (this.#pending + this.#bytes + body.length > this.#pendingMax) {
      this.dropped++;
      this.#send(); // what is held so far ends before the gap
      return;
    }
    if (this.#parts.length === 0) {
      this.#first = index;
      this.#timer ??= setTimeout(() => this.#send(), this.#chunkMs).unref();
    }
    const length = Buffer.allocUnsafe(LENGTH_BYTES);
    length.writeUInt32LE(body.length);
    this.#parts.push(length, body);
    this.#bytes += LENGTH_BYTES + body.length;
    if (this.#bytes >= this.#chunkBytes) this.#send();
  }

  /** Sends what is held, and settles when Redis has taken or refused everything. */
  async flush(): Promise<void> {
    this.#send();
    await Promise.all(this.#inFlight);
  }

  #send(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#parts.length === 0) return;
    const chunk = Buffer.concat(this.#parts, this.#bytes);
    const records = this.#parts.length / 2;
    const first = this.#first;
    this.#parts = [];
    this.#bytes = 0;
    this.#pending += chunk.length;
    const sent = this.#redis
      .xadd(this.#key, 'MAXLEN', '~', this.#chunksKept, '*', 'i', first, 'd', chunk)
      .then(
        () => {},
        () => {
          this.dropped += records;
        },
      )
      .then(() => {
        this.#pending -= chunk.length;
        this.#inFlight.delete(sent);
      });
    this.#inFlight.add(sent);
  }
}

export interface StreamBatch {
  readonly records: readonly Buffer[];
  /** Records before these that this reader did not get: dropped by the writer or trimmed by the server. */
  readonly missing: number;
  /** Redis' id of the entry that held them. */
  readonly id: string;
}

function unpack(chunk: Buffer): Buffer[] {
  const records: Buffer[] = [];
  for (let at = 0; at + LENGTH_BYTES <= chunk.length; ) {
    const length = chunk.readUInt32LE(at);
    at += LENGTH_BYTES;
    records.push(chunk.subarray(at, at + length));
    at += length;
  }
  return records;
}

export interface ReadStreamOptions {
  /** The reader blocks on a connection of its own, made from this one. */
  readonly redis: Redis;
  readonly hostId: string;
  readonly name: StreamName;
  /** `start`: from the oldest chunk kept; `now`: what comes after the call. */
  readonly from: 'start' | 'now';
  readonly signal: AbortSignal;
}

type RawEntry = [id: Buffer, fields: Buffer[]];

/** Yields batches until `signal` aborts. */
export async function* readStream(options: ReadStreamOptions): AsyncGenerator<StreamBatch, void, void> {
  const { redis, hostId, name, from, signal } = options;
  const key = streamKey(hostId, name);
  const reader = redis.duplicate();
  reader.on('error', () => {}); // it reconnects and reads on from where it was
  const stop = (): void => reader.disconnect();
  signal.addEventListener('abort', stop, { once: true });
  try {
    let last = from === 'start' ? '0' : await newestId(reader, key);
    let expected = -1;
    while (!signal.aborted) {
      const answer = await reader.xreadBuffer('COUNT', 64, 'BLOCK', 0, 'STREAMS', key, last);
      // One stream was asked for; its entries are pairs of id and fields.
      const entries = (answer?.[0]?.[1] ?? []) as unknown as RawEntry[];
      for (const [id, [, index, , chunk]] of entries) {
        last = id.toString();
        const first = Number(index);
        const records = unpack(chunk ?? Buffer.alloc(0));
        const missing = expected < 0 ? (from === 'start' ? first : 0) : Math.max(0, first - expected);
        expected = first + records.length;
        yield { records, missing, id: last };
      }
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    signal.removeEventListener('abort', stop);
    reader.disconnect();
  }
}

async function newestId(redis: Redis, key: string): Promise<string> {
  const [newest] = await redis.xrevrange(key, '+', '-', 'COUNT', 1);
  return newest?.[0] ?? '0';
}
