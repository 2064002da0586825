// Xenstore's nodes of one domain, /local/domain/N, as far as the memory plane needs them: two hashes (one the toolstack
// writes and the guest reads, one the guest writes), and a stream of changed paths beside each for watches. A path written by
// both is the toolstack's. As in Xen a watch fires once when it is set, may fire without a change, and carries only the path.
// It knows no node's meaning.

import type { Redis } from 'ioredis';
import { type XenstoreWriter, xenstoreKey, xenstoreWatchKey } from './names.ts';

// Xen's own set of characters; a relative path, without empty parts.
const PATH = /^[A-Za-z0-9@_-]+(\/[A-Za-z0-9@_-]+)*$/;
/** XENSTORE_REL_PATH_MAX, and the payload of one xenstore message. */
const PATH_MAX = 2048;
const VALUE_MAX = 4096;
const CHANGES_KEPT = 1024;

export interface DomainXenstoreOptions {
  readonly redis: Redis;
  readonly hostId: string;
  readonly domid: number;
  /** Which of the two hashes this process writes. */
  readonly writer: XenstoreWriter;
}

export interface Watch {
  readonly stop: () => void;
}

interface Watcher {
  readonly prefix: string;
  readonly onChange: (path: string) => void;
}

function checkPath(path: string): void {
  if (path.length > PATH_MAX || !PATH.test(path)) throw new Error(`not a xenstore path: ${JSON.stringify(path)}`);
}

function checkValue(path: string, value: string): void {
  if (Buffer.byteLength(value) > VALUE_MAX) throw new Error(`value of ${path} is longer than ${VALUE_MAX} bytes`);
}

const isUnder = (path: string, prefix: string): boolean =>
  prefix === '' || path === prefix || path.startsWith(`${prefix}/`);

/** Paths are relative to /local/domain/N; the empty prefix is the domain itself. */
export class DomainXenstore {
  readonly #redis: Redis;
  readonly #toolstack: string;
  readonly #guest: string;
  readonly #own: string;
  readonly #ownWatch: string;
  readonly #watchKeys: readonly [string, string];
  readonly #watchers = new Set<Watcher>();
  #reader: Redis | undefined;
  #reading: Promise<void> | undefined;

  constructor({ redis, hostId, domid, writer }: DomainXenstoreOptions) {
    this.#redis = redis;
    this.#toolstack = xenstoreKey(hostId, domid, 'toolstack');
    this.#guest = xenstoreKey(hostId, domid, 'guest');
    this.#own = xenstoreKey(hostId, domid, writer);
    this.#ownWatch = xenstoreWatchKey(hostId, domid, writer);
    this.#watchKeys = [xenstoreWatchKey(hostId, domid, 'toolstack'), xenstoreWatchKey(hostId, domid, 'guest')];
  }

  async read(path: string): Promise<string | null> {
    checkPath(path);
    const [byToolstack, byGuest] = await Promise.all([
      this.#redis.hget(this.#toolstack, path),
      this.#redis.hget(this.#guest, path),
    ]);
    return byToolstack ?? byGuest;
  }

  write(path: string, value: string): Promise<void> {
    return this.writeMany({ [path]: value });
  }

  /** All nodes or none; their watches fire after all are written. */
  async writeMany(nodes: Readonly<Record<string, string>>): Promise<void> {
    const paths = Object.keys(nodes);
    if (paths.length === 0) return;
    for (const path of paths) {
      checkPath(path);
      checkValue(path, nodes[path] ?? '');
    }
    await this.#change((multi) => multi.hset(this.#own, nodes), paths);
  }

  /** Removes this writer's nodes at and below `path`. */
  async remove(path: string): Promise<void> {
    checkPath(path);
    const doomed = (await this.#redis.hkeys(this.#own)).filter((node) => isUnder(node, path));
    if (doomed.length > 0) await this.#change((multi) => multi.hdel(this.#own, ...doomed), [path]);
  }

  /** Names of the children of `path` (of the domain, if empty), sorted. */
  async list(path = ''): Promise<string[]> {
    if (path !== '') checkPath(path);
    const all = await Promise.all([this.#redis.hkeys(this.#toolstack), this.#redis.hkeys(this.#guest)]);
    const skip = path === '' ? 0 : path.length + 1;
    const children = all
      .flat()
      .filter((node) => isUnder(node, path) && node.length > skip)
      .map((node) => node.slice(skip).split('/')[0] ?? '');
    return [...new Set(children)].sort();
  }

  /** Calls back at once with `prefix`, then with each path at or below it that changes. */
  async watch(prefix: string, onChange: (path: string) => void): Promise<Watch> {
    if (prefix !== '') checkPath(prefix);
    const watcher = { prefix, onChange };
    this.#reading ??= this.#startReading();
    await this.#reading;
    this.#watchers.add(watcher);
    onChange(prefix);
    return { stop: () => this.#watchers.delete(watcher) };
  }

  /** Ends the watches. */
  close(): void {
    this.#watchers.clear();
    this.#reader?.disconnect();
  }

  async #change(edit: (multi: ReturnType<Redis['multi']>) => unknown, paths: readonly string[]): Promise<void> {
    const multi = this.#redis.multi();
    edit(multi);
    for (const path of paths) multi.xadd(this.#ownWatch, 'MAXLEN', '~', CHANGES_KEPT, '*', 'path', path);
    for (const [error] of (await multi.exec()) ?? []) if (error) throw error;
  }

  /** Settles when the reader's position is fixed: what changes afterwards is seen. */
  async #startReading(): Promise<void> {
    const reader = this.#redis.duplicate();
    reader.on('error', () => {}); // it reconnects and reads on from where it was
    this.#reader = reader;
    const last = await Promise.all(
      this.#watchKeys.map(async (key) => (await reader.xrevrange(key, '+', '-', 'COUNT', 1))[0]?.[0] ?? '0'),
    );
    void this.#read(reader, last);
  }

  async #read(reader: Redis, last: string[]): Promise<void> {
    for (;;) {
      const answer = await reader.xread('BLOCK', 0, 'STREAMS', ...this.#watchKeys, ...last).catch(() => undefined);
      if (answer === undefined) return; // closed, or the user was revoked
      for (const [key, entries] of answer ?? []) {
        const stream = this.#watchKeys.indexOf(key);
        for (const [id, [, path = '']] of entries) {
          last[stream] = id;
          this.#fire(path);
        }
      }
    }
  }

  #fire(path: string): void {
    for (const { prefix, onChange } of [...this.#watchers]) {
      // A change above the watched path (a removed subtree) concerns it too.
      if (isUnder(path, prefix)) onChange(path);
      else if (isUnder(prefix, path)) onChange(prefix);
    }
  }
}
