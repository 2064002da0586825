import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  chooseHost,
  registerHost,
  registryDirectory,
  registryFile,
  runningHosts,
  unregisterHost,
} from './host-registry.ts';

const host = (hostId: string, pid = process.pid) => ({
  hostId,
  pid,
  redis: { path: '/tmp/socket', password: 'secret' },
  label: 'a test',
  startedAt: '2026-01-01T00:00:00.000Z',
});

describe('the registry of running hosts', () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'hl-spec-'));
    vi.stubEnv('XDG_RUNTIME_DIR', dir);
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(dir, { recursive: true, force: true });
  });

  it('only its owner can read what holds a password', () => {
    registerHost(host('a-1'));
    expect(statSync(registryDirectory()).mode & 0o777).toBe(0o700);
    expect(statSync(registryFile('a-1')).mode & 0o777).toBe(0o600);
  });

  it('forgets hosts whose launcher is gone, and files that are no such thing', () => {
    registerHost(host('alive-1'));
    registerHost(host('dead-1', 2 ** 22 - 1));
    writeFileSync(registryFile('broken'), '{');
    expect(runningHosts().map(({ hostId }) => hostId)).toEqual(['alive-1']);
    unregisterHost('alive-1');
    expect(runningHosts()).toEqual([]);
  });

  it('takes the only host, or the one whose id begins as asked, and asks otherwise', () => {
    expect(() => chooseHost(undefined)).toThrow(/no host is running/);
    registerHost(host('pod-1'));
    expect(chooseHost(undefined).hostId).toBe('pod-1');
    registerHost(host('rmrr-1'));
    expect(chooseHost('rm').hostId).toBe('rmrr-1');
    expect(() => chooseHost(undefined)).toThrow(/2 hosts are running/);
    expect(() => chooseHost('x')).toThrow(/no host x is running/);
  });
});
