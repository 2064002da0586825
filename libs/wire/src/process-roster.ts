// The processes of a host, as their launcher knows them: one hash, a field for each by its name. The launcher writes it, others
// only show it; nothing is decided by it.
import type { Redis } from 'ioredis';
import { z } from 'zod';
import { processesKey } from './names.ts';

const entrySchema = z.object({
  pid: z.int(),
  startedAtMs: z.number(),
  /** How often a process of this name was started. */
  starts: z.int(),
  /** How it ended; null: it runs. */
  ended: z.string().nullable(),
});
export type RosterEntry = z.infer<typeof entrySchema>;

/** Never waits and never fails: a host runs without it. */
export function writeRoster(redis: Redis, hostId: string, name: string, entry: RosterEntry): void {
  redis.hset(processesKey(hostId), name, JSON.stringify(entry)).catch(() => {});
}

export async function readRoster(redis: Redis, hostId: string): Promise<(RosterEntry & { readonly name: string })[]> {
  const fields = await redis.hgetall(processesKey(hostId));
  return Object.entries(fields)
    .flatMap(([name, text]) => {
      const parsed = entrySchema.safeParse(JSON.parse(text));
      return parsed.success ? [{ name, ...parsed.data }] : [];
    })
    .sort((a, b) => a.name.localeCompare(b.name));
}
