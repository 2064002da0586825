// The `hostloom` command as tests use it: started as a user starts it, with run directories and its registry of hosts in a place
// of the test's own. Also what is left of its processes, seen from outside.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { RunResult } from '#report/verdict';

const bin = resolve('bin/hostloom');

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** What it has said so far. */
  readonly said: () => string;
}

/** A directory for run directories, temporary files and the registry; removed by `dispose`. */
export class Sandbox {
  readonly path = mkdtempSync(join(tmpdir(), 'hl-e2e-'));
  readonly #started: ChildProcess[] = [];

  get environment(): NodeJS.ProcessEnv {
    return { ...process.env, XDG_RUNTIME_DIR: this.path, TMPDIR: this.path };
  }

  start(...args: readonly string[]): Running {
    const child = spawn(bin, args, { env: this.environment, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#started.push(child);
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    const ended = new Promise<Ended>((settle) => {
      child.once('close', (code, signal) => settle({ code, signal, stdout, stderr }));
    });
    return { child, ended, said: () => stdout + stderr };
  }

  run(...args: readonly string[]): Promise<Ended> {
    return this.start(...args).ended;
  }

  /** Runs a scenario; its result is null if there is none on standard output. */
  async play(scenario: string, ...args: readonly string[]): Promise<Ended & { readonly result: RunResult | null }> {
    const ended = await this.run('run', scenario, '--json', '--runs-dir', join(this.path, 'runs'), ...args);
    return { ...ended, result: ended.stdout.trim() === '' ? null : JSON.parse(ended.stdout) };
  }

  /** What a host leaves in the temporary directory while it runs, and must not leave after. */
  leftovers(): string[] {
    const temporary = readdirSync(this.path).filter((name) => name.startsWith('hostloom-'));
    return temporary.flatMap((name) => {
      if (!/^hostloom-\d+$/.test(name)) return [name];
      return readdirSync(join(this.path, name)).map((file) => `${name}/${file}`); // the registry's directory may stay
    });
  }

  /** Also ends what a failed test left running. */
  dispose(): void {
    for (const child of this.#started) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    rmSync(this.path, { recursive: true, force: true });
  }
}

interface Process {
  readonly pid: number;
  readonly parent: number;
  /** Tells it from a later process of the same number. */
  readonly started: string;
  readonly command: string;
}

function processes(): Process[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (fields[0] === 'Z') return [];
      const command = readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
      return [{ pid: Number(name), parent: Number(fields[1]), started: fields[19] ?? '', command }];
    } catch {
      return []; // it ended meanwhile
    }
  });
}

/** All processes that `pid` started, and those that they started. */
export function descendants(pid: number): Process[] {
  const all = processes();
  const found = new Set([pid]);
  for (let grew = true; grew; ) {
    grew = false;
    for (const { pid: own, parent } of all) {
      if (!found.has(parent) || found.has(own)) continue;
      found.add(own);
      grew = true;
    }
  }
  return all.filter((candidate) => candidate.pid !== pid && found.has(candidate.pid));
}

/** Those of `before` that still run. */
export function stillRunning(before: readonly Process[]): Process[] {
  const now = new Map(processes().map((candidate) => [candidate.pid, candidate.started]));
  return before.filter(({ pid, started }) => now.get(pid) === started);
}

/** Waits for a condition, looked at often; throws with `what` when it does not come. */
export async function until(what: string, ready: () => boolean, timeoutMs = 30_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!ready()) {
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs / 1000} s: ${what}`);
    await new Promise((settle) => setTimeout(settle, 20));
  }
}
