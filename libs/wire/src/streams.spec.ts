import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from './connection.ts';
import { streamKey } from './names.ts';
import { type RedisServer, startRedisServer } from './redis-server.ts';
import { readStream, StreamWriter } from './streams.ts';

let server: RedisServer;
let redis: Redis;
beforeAll(async () => {
  server = await startRedisServer();
  redis = connect(server.endpoint);
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

/** Reads until `count` records, received or missing, have passed. */
async function read(hostId: string, count: number): Promise<{ records: string[]; missing: number }> {
  const abort = new AbortController();
  const records: string[] = [];
  let missing = 0;
  for await (const batch of readStream({ redis, hostId, name: 'trace', from: 'start', signal: abort.signal })) {
    records.push(...batch.records.map(String));
    missing += batch.missing;
    if (records.length + missing >= count) abort.abort();
  }
  return { records, missing };
}

describe('a telemetry stream', () => {
  it('carries every record, in order, many to a chunk', async () => {
    const writer = new StreamWriter({ redis, hostId: 'a', name: 'trace', chunkBytes: 1000 });
    const sent = Array.from({ length: 1000 }, (_, i) => `record ${i}`);
    for (const record of sent) writer.push(record);
    await writer.flush();
    expect(await read('a', 1000)).toEqual({ records: sent, missing: 0 });
    expect(await redis.xlen(streamKey('a', 'trace'))).toBeLessThan(30);
    expect(writer.dropped).toBe(0);
  });

  it('drops records under pressure, counts them, and the reader learns how many', async () => {
    const writer = new StreamWriter({ redis, hostId: 'b', name: 'trace', chunkBytes: 100, pendingMax: 1000 });
    for (let i = 0; i < 500; i++) writer.push(`record ${i}`);
    await writer.flush();
    writer.push('last');
    await writer.flush();
    expect(writer.dropped).toBeGreaterThan(0);
    const { records, missing } = await read('b', 501);
    expect(missing).toBe(writer.dropped);
    expect(records.length + missing).toBe(501);
    expect(records.at(-1)).toBe('last');
  });

  it('tells a late reader how many records the server has trimmed', async () => {
    const writer = new StreamWriter({ redis, hostId: 'c', name: 'trace', chunkBytes: 1, chunksKept: 1 });
    for (let i = 0; i < 500; i++) writer.push(`${i}`);
    await writer.flush();
    const { records, missing } = await read('c', 500);
    expect(missing).toBeGreaterThan(0);
    expect(records[0]).toBe(String(missing));
  });

  it('can be read from now on, and stopped while nothing comes', async () => {
    const writer = new StreamWriter({ redis, hostId: 'd', name: 'console', chunkMs: 5 });
    writer.push('old');
    await writer.flush();
    const abort = new AbortController();
    const batches = readStream({ redis, hostId: 'd', name: 'console', from: 'now', signal: abort.signal });
    const next = batches.next();
    const again = setInterval(() => writer.push('new'), 5);
    const { value } = await next;
    clearInterval(again);
    expect(value?.records.map(String)).toContain('new');
    expect(value?.records.map(String)).not.toContain('old');
    const end = batches.return();
    abort.abort();
    expect((await end).done).toBe(true);
  });
});
