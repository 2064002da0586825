import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, expect, it, vi } from 'vitest';
import { connect } from './connection.ts';
import { findRedisServer, startRedisServer } from './redis-server.ts';

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

describe('the private redis-server', () => {
  it('answers, listens on no TCP port, keeps nothing on disk, never evicts, and asks for a password', async () => {
    const server = await startRedisServer();
    const redis = connect(server.endpoint);
    expect(await redis.config('GET', 'port')).toEqual(['port', '0']);
    expect(await redis.config('GET', 'save')).toEqual(['save', '']);
    expect(await redis.config('GET', 'maxmemory-policy')).toEqual(['maxmemory-policy', 'noeviction']);
    const stranger = connect({ path: server.endpoint.path });
    await expect(stranger.get('x')).rejects.toThrow(/NOAUTH/);
    stranger.disconnect();
    redis.disconnect();
    await server.stop();
  });

  it('leaves neither process nor directory when stopped', async () => {
    const server = await startRedisServer();
    await server.stop();
    expect(isAlive(server.pid)).toBe(false);
    expect(existsSync(dirname(server.endpoint.path))).toBe(false);
  });

  it('does not outlive a starter that is killed', async () => {
    const script = `
      import { startRedisServer } from ${JSON.stringify(new URL('./redis-server.ts', import.meta.url).href)};
      const server = await startRedisServer();
      console.log(JSON.stringify({ pid: server.pid, path: server.endpoint.path }));
      setInterval(() => {}, 1000);`;
    const flags = ['--conditions=source', '--input-type=module', '-e', script];
    const starter = spawn(process.execPath, flags, { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = await once(createInterface(starter.stdout), 'line');
    const { pid, path } = JSON.parse(line);
    expect(isAlive(pid)).toBe(true);
    starter.kill('SIGKILL');
    await vi.waitFor(() => expect(existsSync(dirname(path))).toBe(false), 5000);
    // Its parent is gone, so a zombie is reaped by init sooner or later; it must no longer run.
    await vi.waitFor(() => expect(existsSync(path)).toBe(false), 5000);
  });

  it('says in one sentence what to do where there is no redis-server', async () => {
    expect(findRedisServer('/nowhere')).toBeNull();
    await expect(startRedisServer(findRedisServer('/nowhere'))).rejects.toThrow(
      'redis-server is not on PATH: install it (Debian: apt-get install redis-server) or set REDIS_URL',
    );
  });

  it('that ends at once is an error that says so', async () => {
    await expect(startRedisServer('/bin/false')).rejects.toThrow(/ended at once/);
  });
});
