// What a guest agent is told, by environment variables.
import { z } from 'zod';
import type { RedisEndpoint } from '#wire/connection';
import { endpointOf, hostEnvironment, readEnvironment } from '#wire/environment';

/** Nest token of the configuration. */
export const AGENT_CONFIG = Symbol('AgentConfig');

export interface AgentConfig {
  readonly hostId: string;
  readonly redis: RedisEndpoint;
  /** Guests that this agent holds at a time. */
  readonly capacity: number;
}

const environment = z.object({
  ...hostEnvironment,
  HOSTLOOM_AGENT_CAPACITY: z.coerce.number().int().min(1).max(1024).default(64),
});

/** Throws EnvironmentError with what is wrong. */
export function readConfig(env: NodeJS.ProcessEnv): AgentConfig {
  const told = readEnvironment(environment, env);
  return { hostId: told.HOSTLOOM_HOST_ID, redis: endpointOf(told), capacity: told.HOSTLOOM_AGENT_CAPACITY };
}
