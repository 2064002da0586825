import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { connect } from './connection.ts';
import { NobodyTook, openControl, ReplyUnknown, RequestFailed, serveControl, xlControl } from './control.ts';
import { type RedisServer, startRedisServer } from './redis-server.ts';

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

describe('a control request', () => {
  it('is handled once and answered', async () => {
    const handler = vi.fn(async ({ verb, args }) => ({ exitCode: 0, stdout: `${verb} ${args.join(',')}`, stderr: '' }));
    const serving = await serveControl({ connection: redis, hostId: 'a', control: xlControl, handler });
    const client = await openControl(redis, 'a', xlControl);
    const reply = await client.request({ verb: 'list', args: ['-v'] }, 5000);
    expect(reply).toEqual({ exitCode: 0, stdout: 'list -v', stderr: '' });
    expect(handler).toHaveBeenCalledTimes(1);
    await client.close();
    await serving.close();
  });

  it('that nobody takes in time is withdrawn and never runs', async () => {
    const client = await openControl(redis, 'b', xlControl);
    await expect(client.request({ verb: 'list', args: [] }, 100)).rejects.toBeInstanceOf(NobodyTook);
    const handler = vi.fn(async () => ({ exitCode: 0, stdout: '', stderr: '' }));
    const serving = await serveControl({ connection: redis, hostId: 'b', control: xlControl, handler });
    await client.request({ verb: 'info', args: [] }, 5000);
    expect(handler.mock.calls).toEqual([[{ verb: 'info', args: [] }]]);
    await client.close();
    await serving.close();
  });

  it('that is being worked on when the time is up is unknown, not failed', async () => {
    const handler = () => new Promise<never>(() => {});
    const serving = await serveControl({ connection: redis, hostId: 'c', control: xlControl, handler });
    const client = await openControl(redis, 'c', xlControl);
    await expect(client.request({ verb: 'list', args: [] }, 300)).rejects.toBeInstanceOf(ReplyUnknown);
    await client.close();
    await serving.close();
  });

  it('that is malformed, or whose handler throws, fails with the reason', async () => {
    const handler = async () => {
      throw new Error('no such domain');
    };
    const serving = await serveControl({ connection: redis, hostId: 'd', control: xlControl, handler });
    const client = await openControl(redis, 'd', xlControl);
    const failed = client.request({ verb: 'list', args: [] }, 5000);
    await expect(failed).rejects.toThrow('no such domain');
    await expect(failed).rejects.toBeInstanceOf(RequestFailed);
    await expect(client.request({ verb: '', args: [] }, 5000)).rejects.toThrow(/verb/);
    await client.close();
    await serving.close();
  });
});
