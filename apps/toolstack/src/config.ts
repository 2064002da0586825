// What the toolstack is told: environment variables, and the host's file that the hypervisor boots from. Owns its own knobs; of
// the host it takes what a toolstack on a real machine could see (devices and their BARs, the memory map).
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import type { HostConfig } from '#model/host-config';
import type { RedisEndpoint } from '#wire/connection';
import { EnvironmentError, endpointOf, hostEnvironment, readEnvironment } from '#wire/environment';

/** Nest token of the configuration. */
export const TOOLSTACK_CONFIG = Symbol('ToolstackConfig');

const knobs = z.object({
  /** Whether libxl refuses populate-on-demand together with passthrough. */
  libxlPodCheck: z.enum(['on', 'off']).default('on'),
  /** How xl reads rdm=. */
  rdmParser: z.enum(['documented', 'verbatim']).default('documented'),
  /** How many times faster than real time the policy timers run. */
  timeScale: z.number().positive().default(1),
  /** xl.conf's autoballoon: dom0 gives up memory for a new guest. */
  autoballoon: z.boolean().default(false),
  claimMode: z.boolean().default(true),
  /** How long a new guest waits for an agent to take it. */
  agentWaitMs: z.number().positive().default(5000),
  /** A guest without a heartbeat for so long (Redis answering) is dead. */
  heartbeatMissingMs: z.number().positive().default(5000),
  /** Whether the host has squeezed, as XenServer's have: it sizes new guests and balances the others every ten seconds. */
  squeezed: z.boolean().default(false),
  /** What squeezed keeps free on the host: 8 MiB and a low-memory pool of 1 MiB, as of old (today: 64 MiB). */
  keepFreeKib: z
    .int()
    .min(0)
    .default(9 * 1024),
});
export type ToolstackKnobs = z.infer<typeof knobs>;

const environment = z.object({
  ...hostEnvironment,
  HOSTLOOM_CONFIG: z.string().min(1),
  /** JSON of the knobs; every one has a default. */
  HOSTLOOM_TOOLSTACK: z.string().default('{}'),
});

export interface ToolstackConfig {
  readonly hostId: string;
  readonly redis: RedisEndpoint;
  readonly host: HostConfig;
  readonly knobs: ToolstackKnobs;
}

function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new EnvironmentError(`${what} is not JSON: ${(error as Error).message}`); // JSON.parse throws SyntaxError
  }
}

function readHost(path: string): HostConfig {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new EnvironmentError(`HOSTLOOM_CONFIG ${path}: ${(error as Error).message}`); // fs throws Errors only
  }
  // Field by field the hypervisor checks it, which does not start on a wrong one; here only its presence matters.
  const parsed = z
    .object({ config: z.looseObject({ devices: z.array(z.unknown()) }) })
    .safeParse(parseJson(text, path));
  if (!parsed.success) throw new EnvironmentError(`${path}: config: ${parsed.error.issues[0]?.message}`);
  return parsed.data.config as unknown as HostConfig;
}

/** Throws EnvironmentError with what is wrong and where. */
export function readConfig(env: NodeJS.ProcessEnv): ToolstackConfig {
  const told = readEnvironment(environment, env);
  const parsed = knobs.safeParse(parseJson(told.HOSTLOOM_TOOLSTACK, 'HOSTLOOM_TOOLSTACK'));
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new EnvironmentError(`HOSTLOOM_TOOLSTACK ${issue?.path.join('.')}: ${issue?.message}`);
  }
  return {
    hostId: told.HOSTLOOM_HOST_ID,
    redis: endpointOf(told),
    host: readHost(told.HOSTLOOM_CONFIG),
    knobs: parsed.data,
  };
}
