import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { connectGuest, grantDomain, prepareGrants, removeDomainKeys, revokeDomain } from './acl.ts';
import { connect } from './connection.ts';
import { startHeartbeat } from './heartbeat.ts';
import { heartbeatKey } from './names.ts';
import { type RedisServer, startRedisServer } from './redis-server.ts';
import { DomainXenstore } from './xenstore.ts';

let server: RedisServer;
let admin: Redis;
let hosts = 0;
let hostId: string;
beforeAll(async () => {
  server = await startRedisServer();
  admin = connect(server.endpoint);
  await prepareGrants(admin);
});
afterAll(async () => {
  admin.disconnect();
  await server.stop();
});
beforeEach(() => {
  hostId = `x${++hosts}`;
});

async function both() {
  const { guest } = await grantDomain(admin, hostId, 1, 1);
  const connection = await connectGuest(server.endpoint, guest);
  const toolstack = new DomainXenstore({ redis: admin, hostId, domid: 1, writer: 'toolstack' });
  const inGuest = new DomainXenstore({ redis: connection, hostId, domid: 1, writer: 'guest' });
  const close = () => {
    toolstack.close();
    inGuest.close();
    connection.disconnect();
  };
  return { toolstack, inGuest, connection, close };
}

describe("a domain's xenstore", () => {
  it('is read by both sides, each writing its own part; the toolstack’s value stands above the guest’s', async () => {
    const { toolstack, inGuest, close } = await both();
    await toolstack.writeMany({ 'memory/target': '1024', 'memory/static-max': '2048', name: 'd1' });
    await inGuest.writeMany({ 'data/ready': '1', name: 'evil' });
    expect(await inGuest.read('memory/target')).toBe('1024');
    expect(await toolstack.read('data/ready')).toBe('1');
    expect(await toolstack.read('name')).toBe('d1');
    expect(await inGuest.list()).toEqual(['data', 'memory', 'name']);
    expect(await inGuest.list('memory')).toEqual(['static-max', 'target']);
    expect(await inGuest.read('memory')).toBeNull();
    close();
  });

  it('fires a watch when it is set and when something below it changes, whichever side wrote it', async () => {
    const { toolstack, inGuest, close } = await both();
    const seen: string[] = [];
    const watch = await inGuest.watch('memory', (path) => seen.push(path));
    expect(seen).toEqual(['memory']);
    await toolstack.write('memory/target', '512');
    await toolstack.write('memoryless', 'x');
    await vi.waitFor(() => expect(seen).toEqual(['memory', 'memory/target']));
    watch.stop();
    const heard = vi.fn();
    await toolstack.watch('data', heard);
    await inGuest.write('data/x', '1');
    await vi.waitFor(() => expect(heard).toHaveBeenLastCalledWith('data/x'));
    expect(seen).toHaveLength(2);
    close();
  });

  it('fires the watch of a node whose parent is removed', async () => {
    const { toolstack, inGuest, close } = await both();
    await toolstack.writeMany({ 'a/b/c': '1', 'a/d': '2', ab: '3' });
    const heard = vi.fn();
    await inGuest.watch('a/b', heard);
    await toolstack.remove('a');
    await vi.waitFor(() => expect(heard).toHaveBeenCalledTimes(2));
    expect(await toolstack.list()).toEqual(['ab']);
    close();
  });

  it('refuses a path or a value that xenstore refuses', async () => {
    const { toolstack, close } = await both();
    for (const path of ['', '/abs', 'a//b', 'a/', 'ä', 'a b', 'x'.repeat(2049)]) {
      await expect(toolstack.write(path, ''), path).rejects.toThrow(/xenstore path/);
    }
    await expect(toolstack.write('a', 'x'.repeat(4097))).rejects.toThrow(/longer/);
    close();
  });

  it('lets a guest beat, and ends its connections and keys with the domain', async () => {
    const { connection, inGuest, close } = await both();
    await connection.ping();
    const heart = startHeartbeat({ redis: connection, hostId, domid: 1, everyMs: 10 });
    await vi.waitFor(async () => expect(Number(await admin.get(heartbeatKey(hostId, 1)))).toBeGreaterThan(1));
    heart.stop();
    await inGuest.write('data/x', '1');
    const ended = new Promise((resolve) => connection.once('close', resolve));
    await revokeDomain(admin, hostId, 1, 1);
    await ended;
    await removeDomainKeys(admin, hostId, 1);
    expect(await admin.keys(`{${hostId}}:*`)).toEqual([]);
    close();
  });
});
