// `hostloom doctor`: what this machine has, and what is missing for what. Looks only; installs and changes nothing.
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { arch, availableParallelism, platform, totalmem } from 'node:os';
import { delimiter, join } from 'node:path';
import { findRedisServer } from '#wire/redis-server';
import { repositoryRoot } from '../repository.ts';
import type { Output } from '../terminal.ts';

const WANTED_NODE_MAJOR = 24;
const WANTED_CORES = 2;
const WANTED_MEMORY_GIB = 2;
const PROBE_MS = 5_000;
const NAME_WIDTH = 14;

interface Finding {
  readonly name: string;
  readonly ok: boolean;
  readonly found: string;
  /** What it is for. */
  readonly needed: string;
  /** What to do when it is missing. */
  readonly remedy?: string;
  /** Nothing works without it. */
  readonly required: boolean;
}

/** 0 when a scenario can be run. */
export function doctorCommand(output: Output): number {
  const findings = [node(), built(), redis(), cores(), memory(), architecture(), docker(), chromium(), compiler()];
  for (const { name, ok, found, needed, remedy, required } of findings) {
    const mark = ok ? '✓' : required ? '✗' : '–';
    output.line(`${mark} ${name.padEnd(NAME_WIDTH)} ${found}`);
    if (!ok)
      output.line(
        `  ${' '.repeat(NAME_WIDTH)} missing for: ${needed}${remedy ? `\n  ${' '.repeat(NAME_WIDTH)} → ${remedy}` : ''}`,
      );
  }
  const ok = findings.every((finding) => finding.ok || !finding.required);
  output.json({ ok, findings });
  return ok ? 0 : 1;
}

function onPath(...names: readonly string[]): string | null {
  for (const dir of (process.env.PATH ?? '').split(delimiter)) {
    for (const name of names) {
      const path = join(dir || '.', name);
      try {
        accessSync(path, constants.X_OK);
        return path;
      } catch {
        // not here
      }
    }
  }
  return null;
}

function firstLine(command: string, args: readonly string[]): string | null {
  const probe = spawnSync(command, args, { timeout: PROBE_MS, encoding: 'utf8' });
  return probe.status === 0 ? (probe.stdout.split('\n')[0] ?? '').trim() : null;
}

function node(): Finding {
  const major = Number(process.versions.node.split('.')[0]);
  return {
    name: 'Node',
    ok: major >= WANTED_NODE_MAJOR,
    found: process.version,
    needed: `everything (Node ${WANTED_NODE_MAJOR})`,
    remedy: 'start it as `npx hostloom` in the clone: the right Node comes with `npm ci`',
    required: true,
  };
}

function built(): Finding {
  const ok = existsSync(join(repositoryRoot, 'dist', 'bundle', 'apps', 'hypervisor', 'src', 'main.js'));
  return {
    name: 'build',
    ok,
    found: ok ? 'built' : 'not built',
    needed: 'everything',
    remedy: 'npm run build',
    required: true,
  };
}

function redis(): Finding {
  const path = findRedisServer();
  const url = process.env.REDIS_URL;
  const version = path ? firstLine(path, ['--version']) : null;
  const found = url
    ? `REDIS_URL ${url.replace(/\/\/[^@/]*@/, '//…@')}`
    : path
      ? `${path} ${/v=(\S+)/.exec(version ?? '')?.[1] ?? ''}`
      : 'no redis-server on PATH';
  const remedy =
    'apt-get install redis-server (Debian, Ubuntu), or set REDIS_URL; `npm start` does it by itself where it can';
  return { name: 'Redis', ok: Boolean(url ?? path), found, needed: 'everything', remedy, required: true };
}

function cores(): Finding {
  const n = availableParallelism();
  return {
    name: 'cores',
    ok: n >= WANTED_CORES,
    found: `${n}`,
    needed: 'live races: on one core the actors only take turns',
    required: false,
  };
}

function memory(): Finding {
  const gib = totalmem() / 2 ** 30;
  return {
    name: 'memory',
    ok: gib >= WANTED_MEMORY_GIB,
    found: `${gib.toFixed(1)} GiB`,
    needed: 'large hosts',
    required: false,
  };
}

function architecture(): Finding {
  const name = `${platform()} ${arch()}`;
  return {
    name: 'machine',
    ok: platform() === 'linux' && (arch() === 'x64' || arch() === 'arm64'),
    found: name,
    needed: 'it is only tested on Linux, x64 and arm64',
    required: false,
  };
}

function docker(): Finding {
  const path = onPath('docker');
  const version = path ? firstLine(path, ['version', '--format', '{{.Server.Version}}']) : null;
  return {
    name: 'Docker',
    ok: version !== null,
    found: version ? `engine ${version}` : path ? `${path}, but no engine answers` : 'not found',
    needed: 'the container suites, and a Redis where no redis-server can be installed',
    remedy: 'start the Docker engine',
    required: false,
  };
}

function chromium(): Finding {
  const path = onPath('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable');
  return {
    name: 'Chromium',
    ok: path !== null,
    found: path ?? 'not found',
    needed: 'the browser tests',
    remedy: 'apt-get install chromium',
    required: false,
  };
}

function compiler(): Finding {
  const path = onPath('cc', 'gcc', 'clang');
  return {
    name: 'C compiler',
    ok: path !== null,
    found: path ?? 'not found',
    needed: 'the yardstick of `hostloom bench`: without it, ratios to C are left out',
    remedy: 'apt-get install gcc',
    required: false,
  };
}
