// The processes of one host: starts each in a process group of its own (so that Ctrl-C reaches only the launcher, which ends the
// others in order), writes what they say to log files, knows when each is ready and when one ends. Decides nothing about what
// an end means.
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, type WriteStream } from 'node:fs';
import { Reaper } from './reaper.ts';

/** What every process prints once it serves. */
const READY = / is up$/m;
const READY_TIMEOUT_MS = 30_000;
const TERM_MS = 2_000;
/** Of what a process said last, for the message about its death. */
const TAIL_CHARACTERS = 2_000;

export interface ProcessSpec {
  readonly name: string;
  /** Script that Node runs. */
  readonly entry: string;
  readonly env: Readonly<Record<string, string>>;
  readonly logFile: string;
}

export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Nobody told it to end. */
  readonly unexpected: boolean;
}

export class HostProcess {
  readonly name: string;
  readonly pid: number;
  /** Rejects when it ends, or takes too long, before it is ready. */
  readonly ready: Promise<void>;
  readonly exited: Promise<ProcessEnd>;
  readonly #child: ChildProcess;
  readonly #log: WriteStream;
  #tail = '';
  #told = false;
  #ended = false;

  constructor(spec: ProcessSpec) {
    this.name = spec.name;
    this.#log = createWriteStream(spec.logFile, { flags: 'a' });
    this.#log.on('error', () => {}); // a log that cannot be written ends no run
    this.#child = spawn(process.execPath, [spec.entry], {
      env: { ...process.env, ...spec.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.pid = this.#child.pid ?? 0;
    this.exited = new Promise((resolve) => {
      const over = (code: number | null, signal: NodeJS.Signals | null): void => {
        if (this.#ended) return;
        this.#ended = true;
        this.#log.end();
        resolve({ code, signal, unexpected: !this.#told });
      };
      this.#child.once('close', over);
      this.#child.once('error', () => over(null, null));
    });
    this.ready = this.#untilReady();
    this.ready.catch(() => {}); // whoever waits for it is told
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** The last lines it wrote. */
  get lastWords(): string {
    return this.#tail.trim();
  }

  /** SIGTERM, and SIGKILL for its whole group if it does not go. */
  async stop(): Promise<void> {
    this.#told = true;
    if (this.#ended) return;
    this.#signal('SIGTERM', false);
    const killer = setTimeout(() => this.#signal('SIGKILL', true), TERM_MS);
    await this.exited;
    clearTimeout(killer);
    this.#signal('SIGKILL', true); // children of its own that are still there
  }

  /** SIGKILL to the process alone, as a scenario asks for. */
  kill(): void {
    this.#told = true;
    this.#signal('SIGKILL', false);
  }

  /** It is going to end, and that is no sign that something is wrong. */
  expectEnd(): void {
    this.#told = true;
  }

  #signal(signal: NodeJS.Signals, group: boolean): void {
    try {
      if (this.pid > 0) process.kill(group ? -this.pid : this.pid, signal);
    } catch {
      // it is gone already
    }
  }

  #untilReady(): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`${this.name} is not ready after ${READY_TIMEOUT_MS / 1000} s`)),
        READY_TIMEOUT_MS,
      );
      const hear = (chunk: Buffer): void => {
        this.#log.write(chunk);
        this.#tail = (this.#tail + chunk.toString()).slice(-TAIL_CHARACTERS);
        if (!READY.test(this.#tail)) return;
        clearTimeout(timer);
        resolve();
      };
      this.#child.stdout?.on('data', hear);
      this.#child.stderr?.on('data', hear);
      void this.exited.then(({ code, signal }) => {
        clearTimeout(timer);
        const how = signal ? `was ended by ${signal}` : `ended with status ${code}`;
        reject(new Error(`${this.name} ${how} before it was ready${this.lastWords ? `:\n${this.lastWords}` : ''}`));
      });
    });
  }
}

export class ProcessGroup {
  readonly #processes: HostProcess[] = [];
  readonly #reaper: Reaper;

  /** `paths`: removed if this process dies without stopping the group. */
  constructor(paths: readonly string[]) {
    this.#reaper = new Reaper(paths);
  }

  start(spec: ProcessSpec): HostProcess {
    const child = new HostProcess(spec);
    this.#processes.push(child);
    if (child.pid > 0) this.#reaper.watch(child.pid);
    void child.exited.then(() => this.#reaper.forget(child.pid));
    return child;
  }

  /** Ends all of them, `last` after the others, which it serves. */
  async stop(last: HostProcess | null): Promise<void> {
    await Promise.all(this.#processes.filter((child) => child !== last).map((child) => child.stop()));
    await last?.stop();
    this.#reaper.dismiss();
  }
}
