// What the dashboard is told, by environment variables: its host, where it listens, and the token that changing the host needs. A
// token that nobody gave is made here, once for the life of the process.
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import type { RedisEndpoint } from '#wire/connection';
import { endpointOf, hostEnvironment, readEnvironment } from '#wire/environment';

/** Nest token of the configuration. */
export const DASHBOARD_CONFIG = Symbol('DashboardConfig');

const TOKEN_MIN = 16;

const environment = z.object({
  ...hostEnvironment,
  /** Address to listen at. */
  HOSTLOOM_DASHBOARD_BIND: z.string().min(1).default('127.0.0.1'),
  /** 0: any free one. */
  HOSTLOOM_DASHBOARD_PORT: z.coerce.number().int().min(0).max(65_535).default(0),
  /** Further origins whose pages may connect, separated by commas: `https://host.example:8443`. */
  HOSTLOOM_DASHBOARD_ORIGINS: z.string().default(''),
  HOSTLOOM_TOKEN: z.string().min(TOKEN_MIN, `at least ${TOKEN_MIN} characters`).optional(),
});

export interface DashboardConfig {
  readonly hostId: string;
  readonly redis: RedisEndpoint;
  readonly bind: string;
  readonly port: number;
  readonly origins: readonly string[];
  readonly token: string;
  /** Nobody knows it yet: it is printed once. */
  readonly tokenIsNew: boolean;
}

/** Throws EnvironmentError with what is wrong. */
export function readConfig(env: NodeJS.ProcessEnv): DashboardConfig {
  const told = readEnvironment(environment, env);
  return {
    hostId: told.HOSTLOOM_HOST_ID,
    redis: endpointOf(told),
    bind: told.HOSTLOOM_DASHBOARD_BIND,
    port: told.HOSTLOOM_DASHBOARD_PORT,
    origins: told.HOSTLOOM_DASHBOARD_ORIGINS.split(',')
      .map((origin) => origin.trim())
      .filter((origin) => origin !== ''),
    token: told.HOSTLOOM_TOKEN ?? randomBytes(16).toString('base64url'),
    tokenIsNew: told.HOSTLOOM_TOKEN === undefined,
  };
}
