// The directory a run leaves: runs/<scenario>/<stamp>/, and runs/<scenario>/latest that points at the newest. This file
// owns names, caps and atomicity; what the files say comes from libs/formats and report-html.ts.
//
//   verdict.json  report.html  history.ndjson  trace.json  lockprof.txt  messages.mmd  xl-dmesg.txt  logs/
//
// Two runs of one scenario at the same time get different stamps; `latest` points at the one that began or ended last. One that was
// interrupted leaves nothing.
import { createWriteStream } from 'node:fs';
import {
  appendFile,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  rmdir,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { formatLockProfile, type LockProfile } from '#formats/lockprof';
import { type Chapter, type SequenceOptions, sequenceDiagram } from '#formats/mermaid';
import { type TraceEvent, type TraceNames, traceChunks } from '#formats/perfetto';
import { renderReport } from './report-html.ts';
import { exitCodeOf, type RunResult } from './verdict.ts';

export interface RunDirectoryOptions {
  /** Bytes of history kept; what comes after is counted and told. Default 64 MiB. */
  readonly historyBytes?: number;
}

const DEFAULT_HISTORY_BYTES = 64 * 1024 * 1024;
const HISTORY_BATCH_BYTES = 64 * 1024;
const LATEST = 'latest';
const RUNNING = '.running';
/** 20261120T084512.123Z-p4711, and -2, -3 … when one process starts two in a millisecond. */
const STAMP = /^\d{8}T\d{6}\.\d{3}Z-p\d+(?:-\d+)?$/;

const stampOf = (now: Date): string => `${now.toISOString().replace(/[-:]/g, '')}-p${process.pid}`;

const hasCode = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code;

/** A scenario's name as one path component: nothing in it can leave the runs directory. */
function directoryName(scenario: string): string {
  const name = scenario.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^\.+/, '');
  return name === '' ? 'unnamed' : name;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return hasCode(error, 'EPERM'); // somebody else's process, but there
  }
}

export class RunDirectory {
  readonly path: string;
  readonly #parent: string;
  readonly #stamp: string;
  /** What `latest` pointed at before. */
  readonly #before: string | null;
  readonly #historyLimit: number;
  #historyBytes = 0;
  #historyDropped = 0;
  #pending: string[] = [];
  #pendingBytes = 0;
  /** Appends in order; a failed one is kept and thrown by the next flush. */
  #appends: Promise<void> = Promise.resolve();
  #appendError: unknown;

  private constructor(parent: string, stamp: string, before: string | null, options: RunDirectoryOptions) {
    this.#parent = parent;
    this.#stamp = stamp;
    this.#before = before;
    this.path = join(parent, stamp);
    this.#historyLimit = options.historyBytes ?? DEFAULT_HISTORY_BYTES;
  }

  /** Makes the directory of a run that begins `now`, under `root` (usually `runs`). */
  static async create(
    root: string,
    scenario: string,
    now: Date,
    options: RunDirectoryOptions = {},
  ): Promise<RunDirectory> {
    const parent = join(root, directoryName(scenario));
    await mkdir(parent, { recursive: true });
    for (let n = 1; ; n++) {
      const stamp = n === 1 ? stampOf(now) : `${stampOf(now)}-${n}`;
      try {
        await mkdir(join(parent, stamp));
      } catch (error) {
        if (hasCode(error, 'EEXIST')) continue;
        throw error;
      }
      const run = new RunDirectory(parent, stamp, await readlinkOrNull(join(parent, LATEST)), options);
      await mkdir(join(run.path, 'logs'));
      await writeFile(join(run.path, RUNNING), `${process.pid}\n`);
      await run.#pointLatestAt(stamp);
      return run;
    }
  }

  /** Keeps the newest `keep` runs of every scenario, those still running and the one `latest` names; removes the rest. */
  static async prune(root: string, keep: number): Promise<string[]> {
    const removed: string[] = [];
    for (const scenario of await listDirectories(root)) {
      const parent = join(root, scenario);
      const latest = await readlinkOrNull(join(parent, LATEST));
      const stamps = (await listDirectories(parent)).filter((name) => STAMP.test(name)).sort();
      for (const stamp of stamps.slice(0, Math.max(0, stamps.length - keep))) {
        const path = join(parent, stamp);
        if (stamp === latest || (await isRunning(path))) continue;
        await rm(path, { recursive: true, force: true });
        removed.push(path);
      }
    }
    return removed;
  }

  /** Path of a log that a process of the run writes itself. */
  logPath(name: string): string {
    return join(this.path, 'logs', directoryName(name));
  }

  /** Adds one record to history.ndjson; cheap, written in batches. */
  appendHistory(record: Readonly<Record<string, unknown>>): void {
    if (this.#historyDropped > 0) {
      this.#historyDropped++;
      return;
    }
    const line = `${JSON.stringify(record)}\n`;
    const bytes = Buffer.byteLength(line);
    if (this.#historyBytes + bytes > this.#historyLimit) {
      this.#historyDropped = 1;
      return;
    }
    this.#historyBytes += bytes;
    this.#pending.push(line);
    this.#pendingBytes += bytes;
    if (this.#pendingBytes >= HISTORY_BATCH_BYTES) this.#enqueueHistory();
  }

  /** Waits until every record so far is on disk. */
  async flush(): Promise<void> {
    this.#enqueueHistory();
    await this.#appends;
    if (this.#appendError !== undefined) throw this.#appendError;
  }

  /** Xen's console, as `xl dmesg` gives it. */
  writeDmesg(text: string): Promise<void> {
    return this.#write('xl-dmesg.txt', text);
  }

  writeLockProfile(profile: LockProfile): Promise<void> {
    return this.#write('lockprof.txt', formatLockProfile(profile));
  }

  writeMessages(chapters: readonly Chapter[], options?: SequenceOptions): Promise<void> {
    return this.#write('messages.mmd', sequenceDiagram(chapters, options));
  }

  /** Streams the trace to disk; it is never held as one text. */
  async writeTrace(events: Iterable<TraceEvent> | AsyncIterable<TraceEvent>, names: TraceNames): Promise<void> {
    const path = join(this.path, 'trace.json');
    await pipeline(Readable.from(traceChunks(events, names)), createWriteStream(`${path}.part`));
    await rename(`${path}.part`, path);
  }

  /** verdict.json and report.html. */
  async writeResult(result: RunResult): Promise<void> {
    const document = { ...result, exitCode: exitCodeOf(result.verdict) };
    await this.#write('verdict.json', `${JSON.stringify(document, null, 2)}\n`);
    await this.#write('report.html', renderReport(result));
  }

  /** A report of another kind than a scenario's: its page. */
  writeReport(page: string): Promise<void> {
    return this.#write('report.html', page);
  }

  /** Ends the run: the rest of the history (with a note of what the cap left out), and `latest`. */
  async close(): Promise<void> {
    if (this.#historyDropped > 0) {
      const note = `history is capped at ${this.#historyLimit} bytes; ${this.#historyDropped} later records are not here`;
      this.#pending.push(`${JSON.stringify({ note, dropped: this.#historyDropped })}\n`);
      this.#historyDropped = 0;
    }
    try {
      await this.flush();
    } finally {
      await rm(join(this.path, RUNNING), { force: true });
      await this.#pointLatestAt(this.#stamp);
    }
  }

  /** Ends an interrupted run: it has no verdict, so it leaves nothing, and `latest` names again what it named before. */
  async abandon(): Promise<void> {
    await this.#appends;
    const latest = join(this.#parent, LATEST);
    if ((await readlinkOrNull(latest)) === this.#stamp) {
      if (this.#before === null) await rm(latest, { force: true });
      else await this.#pointLatestAt(this.#before);
    }
    await rm(this.path, { recursive: true, force: true });
    await rmdir(this.#parent).catch((error: unknown) => {
      if (!hasCode(error, 'ENOTEMPTY') && !hasCode(error, 'ENOENT')) throw error; // other runs of the scenario
    });
  }

  #enqueueHistory(): void {
    if (this.#pending.length === 0) return;
    const text = this.#pending.join('');
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#appends = this.#appends
      .then(() => appendFile(join(this.path, 'history.ndjson'), text))
      .catch((error: unknown) => {
        this.#appendError ??= error;
      });
  }

  /** A reader sees the old file or the whole new one. */
  async #write(name: string, text: string): Promise<void> {
    const path = join(this.path, name);
    await writeFile(`${path}.part`, text);
    await rename(`${path}.part`, path);
  }

  /** A symlink cannot be changed in place: make another and rename it over the old one. */
  async #pointLatestAt(stamp: string): Promise<void> {
    const next = join(this.#parent, `.${LATEST}-${this.#stamp}`);
    await rm(next, { force: true });
    await symlink(stamp, next);
    await rename(next, join(this.#parent, LATEST));
  }
}

async function listDirectories(path: string): Promise<string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    return entries.flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  }
}

async function readlinkOrNull(path: string): Promise<string | null> {
  try {
    return await readlink(path);
  } catch {
    return null;
  }
}

/** Whether the process that began this run is still there and has not ended it. */
async function isRunning(path: string): Promise<boolean> {
  try {
    return isAlive(Number.parseInt(await readFile(join(path, RUNNING), 'utf8'), 10));
  } catch {
    return false;
  }
}
