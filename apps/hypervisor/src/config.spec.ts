import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { smallConfig } from '../../../libs/model/test-support/p2m-fixture.ts';
import { readConfig } from './config.ts';

const dir = mkdtempSync(join(tmpdir(), 'hostloom-config-'));
afterAll(() => rmSync(dir, { recursive: true }));

function environment(file: unknown, more: Record<string, string> = {}): NodeJS.ProcessEnv {
  const path = join(dir, 'run.json');
  writeFileSync(path, typeof file === 'string' ? file : JSON.stringify(file));
  return { HOSTLOOM_HOST_ID: 'h1', HOSTLOOM_REDIS: '/tmp/redis.sock', HOSTLOOM_CONFIG: path, ...more };
}
const good = { config: smallConfig(), dom0: { memoryMb: 64, vcpus: 2 } };

describe('the configuration', () => {
  it('is read from the environment and the file it names', () => {
    const config = readConfig(environment({ ...good, record: true }, { HOSTLOOM_REDIS_PASSWORD: 'x' }));
    expect(config.redis).toEqual({ path: '/tmp/redis.sock', password: 'x' });
    expect(config.host).toEqual(smallConfig());
    expect(config).toMatchObject({ hostId: 'h1', record: true, faultPlan: [], runDir: null });
  });

  it('takes a URL as well as a socket path', () => {
    const config = readConfig(environment(good, { HOSTLOOM_REDIS: 'redis://127.0.0.1:7000' }));
    expect(config.redis).toEqual({ url: 'redis://127.0.0.1:7000' });
  });

  it.each([
    ['an absent file', { HOSTLOOM_CONFIG: '/nowhere/run.json' }, good, /HOSTLOOM_CONFIG \/nowhere\/run\.json: ENOENT/],
    ['a file that is not JSON', {}, '{', /is not JSON/],
    ['a host without pCPUs', {}, { ...good, config: { ...smallConfig(), pcpus: 0 } }, /config\.pcpus/],
    [
      'an unknown kind of step in the fault plan',
      {},
      { ...good, faultPlan: [{ at: { kind: 'nap', nth: 1 }, do: { errno: 12 } }] },
      /faultPlan\.0\.at\.kind/,
    ],
    ['a host id that is part of a key pattern', { HOSTLOOM_HOST_ID: 'a*' }, good, /HOSTLOOM_HOST_ID/],
  ])('refuses %s with a sentence that says where', (_what, env, file, message) => {
    expect(() => readConfig(environment(file, env))).toThrow(message);
  });
});
