// What every process of a host is told about where it belongs: the host's id and its Redis server, by environment variables
// (a command line is readable by every user of the machine). Owns these variables; each process adds its own.
import { z } from 'zod';
import type { RedisEndpoint } from './connection.ts';
import { isHostId } from './names.ts';

/** Exit status for a wrong variable or file. */
export const EXIT_USAGE = 64;
/** Exit status of a process whose hypervisor or Redis server is gone. */
export const EXIT_HOST_GONE = 69;

/** An operator's mistake: printed without a stack. */
export class EnvironmentError extends Error {
  override readonly name = 'EnvironmentError';
}

export const hostEnvironment = {
  HOSTLOOM_HOST_ID: z.string().refine(isHostId, "letters, digits, '.', '_' or '-', at most 63"),
  /** A socket's path or a URL. */
  HOSTLOOM_REDIS: z.string().min(1),
  HOSTLOOM_REDIS_USERNAME: z.string().optional(),
  HOSTLOOM_REDIS_PASSWORD: z.string().optional(),
};

/** A path is a unix socket, everything else a URL. */
export function endpointOf(told: {
  HOSTLOOM_REDIS: string;
  HOSTLOOM_REDIS_USERNAME?: string | undefined;
  HOSTLOOM_REDIS_PASSWORD?: string | undefined;
}): RedisEndpoint {
  const { HOSTLOOM_REDIS: where, HOSTLOOM_REDIS_USERNAME: username, HOSTLOOM_REDIS_PASSWORD: password } = told;
  const credentials = { ...(username ? { username } : {}), ...(password ? { password } : {}) };
  return /^[a-z]+:/.test(where) ? { url: where, ...credentials } : { path: where, ...credentials };
}

/** Reads `env` by `schema`. Throws EnvironmentError naming every wrong variable. */
export function readEnvironment<T>(schema: z.ZodType<T>, env: NodeJS.ProcessEnv): T {
  const parsed = schema.safeParse(env);
  if (parsed.success) return parsed.data;
  throw new EnvironmentError(
    parsed.error.issues.map((issue) => `${issue.path.join('.') || 'environment'}: ${issue.message}`).join('; '),
  );
}
