// Sees to it that there is a redis-server: on the PATH, given by REDIS_URL, installed from Debian's packages (as root on
// Debian or Ubuntu), or run by Docker; else one sentence that says what to do. No dependencies; runs on any Node >= 20.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const say = (text) => console.error(`hostloom: ${text}`);
const works = (command, args) => spawnSync(command, args, { stdio: 'ignore' }).status === 0;

function debian() {
  try {
    return /^ID(_LIKE)?=.*(debian|ubuntu)/m.test(readFileSync('/etc/os-release', 'utf8'));
  } catch {
    return false;
  }
}

function apt(...args) {
  const r = spawnSync('apt-get', args, {
    stdio: ['ignore', 'ignore', 2],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
  if (r.signal) process.kill(process.pid, r.signal);
  return r.status === 0;
}

/** Installed packages start a server of their own on some systems; hostloom starts its own private one and needs none. */
function installFromDebian() {
  if (process.getuid?.() !== 0 || !debian() || !existsSync('/usr/bin/apt-get')) return false;
  say('installing redis-server (apt-get), once');
  // The index may be fresh enough already; if not, fetch it and try again.
  const install = () => apt('install', '-y', '-qq', '--no-install-recommends', 'redis-server');
  return install() || (apt('update', '-qq') && install());
}

const BIN = fileURLToPath(new URL('../node_modules/.bin', import.meta.url));
const IMAGE = 'redis:7-alpine';

/** A `redis-server` that is a container: configuration on standard input, unix socket under the shared temporary directory. */
function shimDocker() {
  if (!works('docker', ['info']) || !works('docker', ['pull', '-q', IMAGE])) return false;
  say(`using the redis-server of Docker's ${IMAGE}`);
  const script = `#!/bin/sh
# Written by scripts/redis.mjs: this machine has Docker but no redis-server.
exec docker run --rm -i --init --network none --user "$(id -u):$(id -g)" -v "\${TMPDIR:-/tmp}:\${TMPDIR:-/tmp}" ${IMAGE} redis-server "$@"
`;
  writeFileSync(join(BIN, 'redis-server'), script, { mode: 0o755 });
  return true;
}

/** The Docker shim lies where npm puts the repository's own programs. */
export function haveRedis() {
  const env = { ...process.env, PATH: `${BIN}${delimiter}${process.env.PATH}` };
  if (process.env.REDIS_URL) return true;
  const found = spawnSync('redis-server', ['--version'], { encoding: 'utf8', env });
  if (found.status !== 0) return false;
  const major = Number(/v=(\d+)/.exec(found.stdout)?.[1] ?? 0);
  // Guests get users of their own with read-only keys, which older servers do not know.
  if (major < 7) say(`the redis-server here is version ${major}; hostloom needs 7 or later`);
  return major >= 7;
}

export function provideRedis() {
  if (haveRedis()) return true;
  if (installFromDebian() && haveRedis()) return true;
  if (shimDocker()) return true;
  say(
    'there is no redis-server. Install one (Debian, Ubuntu: apt-get install redis-server; Fedora: dnf install redis; ' +
      'macOS: brew install redis), start Docker, or set REDIS_URL to a server of yours',
  );
  return false;
}
