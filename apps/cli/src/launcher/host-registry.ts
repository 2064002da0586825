// The hosts that run on this machine for this user: one small file each, by which other commands (`hostloom xl`) find them. Owns
// the directory, the files' form and the removal of those whose launcher is gone. A file holds the Redis password, so only its
// owner can read it.
import { chmodSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { CommandError, EXIT_USAGE } from '../exit-codes.ts';

const endpoint = z.union([
  z.object({ path: z.string(), username: z.string().exactOptional(), password: z.string().exactOptional() }),
  z.object({ url: z.string(), username: z.string().exactOptional(), password: z.string().exactOptional() }),
]);

const entrySchema = z.object({
  hostId: z.string(),
  /** Of the launcher. */
  pid: z.int().min(1),
  redis: endpoint,
  /** What it runs, for people. */
  label: z.string(),
  startedAt: z.string(),
});
export type RunningHost = z.infer<typeof entrySchema>;

/** Made for this user alone; somebody else's directory of that name is refused. */
export function registryDirectory(): string {
  const base = process.env.XDG_RUNTIME_DIR || tmpdir();
  const dir = join(base, `hostloom-${userInfo().uid}`);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const stat = lstatSync(dir);
  if (!stat.isDirectory() || stat.uid !== userInfo().uid) {
    throw new CommandError(`${dir} is not a directory of yours`, 'remove it, or set XDG_RUNTIME_DIR');
  }
  if ((stat.mode & 0o077) !== 0) chmodSync(dir, 0o700);
  return dir;
}

export const registryFile = (hostId: string): string => join(registryDirectory(), `${hostId}.json`);

export function registerHost(host: RunningHost): void {
  writeFileSync(registryFile(host.hostId), JSON.stringify(host), { mode: 0o600 });
}

export function unregisterHost(hostId: string): void {
  rmSync(registryFile(hostId), { force: true });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'; // there, but not ours
  }
}

function readEntry(path: string): RunningHost | null {
  try {
    return entrySchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return null; // gone meanwhile, or half written
  }
}

/** Hosts whose launcher lives, the oldest first. Files of dead ones are removed. */
export function runningHosts(): RunningHost[] {
  const dir = registryDirectory();
  const hosts: RunningHost[] = [];
  for (const name of readdirSync(dir)) {
    if (!name.endsWith('.json')) continue;
    const entry = readEntry(join(dir, name));
    if (!entry) continue;
    if (isAlive(entry.pid)) hosts.push(entry);
    else rmSync(join(dir, name), { force: true });
  }
  return hosts.sort((a, b) => a.startedAt.localeCompare(b.startedAt));
}

/** The host a command means: by id or the beginning of one, or the only one there is. */
export function chooseHost(wanted: string | undefined): RunningHost {
  const hosts = runningHosts();
  const list = hosts.map(({ hostId, label }) => `${hostId} (${label})`).join(', ');
  if (hosts.length === 0)
    throw new CommandError('no host is running', 'start one: `hostloom up`, or `hostloom run SCENARIO`');
  const chosen = wanted === undefined ? hosts : hosts.filter(({ hostId }) => hostId.startsWith(wanted));
  const [only] = chosen;
  if (only && chosen.length === 1) return only;
  if (chosen.length === 0) throw new CommandError(`no host ${wanted} is running`, `running: ${list}`, EXIT_USAGE);
  throw new CommandError(`${chosen.length} hosts are running`, `choose one with --host ID: ${list}`, EXIT_USAGE);
}
