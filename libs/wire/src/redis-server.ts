// Owns one private redis-server: a unix socket in a directory of its own, no TCP port, nothing kept on disk, a password that
// only the starting process knows. It knows nothing of what is stored.
//
// The server must not outlive its starter, however that one dies, and must not die with it on Ctrl-C before the others have
// said goodbye. So it runs in a process group of its own, and a small shell reads from a pipe that the starter holds open:
// at end of file it stops the server and removes the directory.

import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { accessSync, constants, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { connect, type RedisEndpoint, redisOptions } from './connection.ts';

export { connect, type RedisEndpoint };

const READY_TIMEOUT_MS = 10_000;
const STOP_TIMEOUT_MS = 5_000;
/** sun_path holds 108 bytes. */
const SOCKET_PATH_MAX = 107;

export interface RedisServer {
  readonly endpoint: RedisEndpoint & { readonly path: string };
  readonly pid: number;
  /** Settles when the server is gone, whoever stopped it. */
  readonly exited: Promise<void>;
  stop(): Promise<void>;
}

/** Full path of `redis-server` on PATH, or null. */
export function findRedisServer(path: string = process.env.PATH ?? ''): string | null {
  for (const dir of path.split(delimiter)) {
    const candidate = join(dir || '.', 'redis-server');
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // not in this directory
    }
  }
  return null;
}

function privateDirectory(): string {
  for (const base of [tmpdir(), '/tmp']) {
    if (join(base, 'hostloom-redis-XXXXXX', 'redis.sock').length > SOCKET_PATH_MAX) continue;
    return mkdtempSync(join(base, 'hostloom-redis-'));
  }
  throw new Error('no temporary directory with a path short enough for a unix socket');
}

const configuration = (dir: string, socket: string, password: string): string =>
  [
    'port 0',
    `unixsocket "${socket}"`,
    'unixsocketperm 700',
    `requirepass ${password}`,
    `dir "${dir}"`,
    `logfile "${join(dir, 'redis.log')}"`,
    'loglevel warning',
    'daemonize no',
    'save ""',
    'appendonly no',
    'maxmemory-policy noeviction',
    // A guest's message is bounded by the server already.
    'proto-max-bulk-len 16mb',
    // Replies are short; a reader this far behind is not reading.
    'client-output-buffer-limit pubsub 256mb 64mb 60',
    '',
  ].join('\n');

// $1 = server, $2 = directory. `done` on the pipe: the server is stopped already.
const WATCH = `trap '' INT TERM HUP; read -r word
if [ "$word" != done ]; then
  kill "$1" 2>/dev/null
  # It writes a last line to its log: not before it is gone.
  n=0; while kill -0 "$1" 2>/dev/null && [ $n -lt 50 ]; do n=$((n + 1)); sleep 0.1; done
fi
rm -rf -- "$2"`;

function startWatcher(pid: number, dir: string): ChildProcess {
  const watcher = spawn('/bin/sh', ['-c', WATCH, 'watch', String(pid), dir], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  watcher.on('error', () => {});
  watcher.stdin?.on('error', () => {});
  watcher.unref();
  return watcher;
}

async function waitReady(endpoint: RedisEndpoint, log: string, isGone: () => boolean): Promise<void> {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  const probe = new Redis({ ...redisOptions(endpoint), retryStrategy: () => 10 });
  probe.on('error', () => {});
  let answered = false;
  const pong = probe.ping().then(
    () => {
      answered = true;
    },
    () => {},
  );
  try {
    while (!answered) {
      if (isGone()) throw new Error(`redis-server ended at once: ${lastLine(log) || 'no reason given'}`);
      if (Date.now() > deadline) throw new Error(`redis-server is not ready after ${READY_TIMEOUT_MS / 1000} s`);
      await Promise.race([pong, sleep(20)]);
    }
  } finally {
    probe.disconnect();
  }
}

function lastLine(log: string): string {
  try {
    return readFileSync(log, 'utf8').trim().split('\n').at(-1) ?? '';
  } catch {
    return '';
  }
}

/** Starts a server and returns when it answers. Throws one clear sentence where there is no `redis-server`. */
export async function startRedisServer(binary: string | null = findRedisServer()): Promise<RedisServer> {
  if (binary === null) {
    throw new Error('redis-server is not on PATH: install it (Debian: apt-get install redis-server) or set REDIS_URL');
  }
  const dir = privateDirectory();
  const path = join(dir, 'redis.sock');
  const password = randomBytes(24).toString('hex');
  const endpoint = { path, password };
  // The configuration goes through the pipe: a command line is readable by every user of the machine.
  const server = spawn(binary, ['-'], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
  let gone = false;
  const exited = new Promise<void>((resolve) => {
    const over = (): void => {
      gone = true;
      resolve();
    };
    server.once('exit', over);
    server.once('error', over);
  });
  server.stdin.on('error', () => {});
  server.stdin.end(configuration(dir, path, password));
  const watcher = server.pid === undefined ? null : startWatcher(server.pid, dir);

  const stop = async (): Promise<void> => {
    if (!gone) server.kill('SIGTERM');
    const killer = setTimeout(() => server.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await exited;
    clearTimeout(killer);
    rmSync(dir, { recursive: true, force: true });
    watcher?.stdin?.end('done\n');
  };
  try {
    await waitReady(endpoint, join(dir, 'redis.log'), () => gone);
  } catch (error) {
    await stop();
    throw error;
  }
  server.unref();
  return { endpoint, pid: server.pid as number, exited, stop };
}
