// BullMQ's Lua scripts: loads them into the server, and lets a connection call them by hash only. A guest's user has no
// `eval`, but ioredis sends a script's text on first use; so a guest's connection gets its script commands from here.
// It refuses to know what any script does.

import { createHash } from 'node:crypto';
import { RedisConnection } from 'bullmq';
import { Redis } from 'ioredis';

export interface BullScript {
  /** The name BullMQ looks up on its client, version included. */
  readonly command: string;
  readonly lua: string;
  readonly sha: string;
  readonly keys: number;
}

let collected: Promise<readonly BullScript[]> | undefined;

/** The scripts of the installed BullMQ, caught as it defines them on a connection that is never opened. */
export function bullScripts(): Promise<readonly BullScript[]> {
  collected ??= (async () => {
    const scripts: BullScript[] = [];
    const never = new Redis({ lazyConnect: true, maxRetriesPerRequest: null });
    never.defineCommand = (command, { lua, numberOfKeys }) => {
      scripts.push({ command, lua, sha: createHash('sha1').update(lua).digest('hex'), keys: numberOfKeys ?? 0 });
    };
    await new RedisConnection(never, { skipVersionCheck: true, skipWaitingForReady: true, shared: true }).client;
    return scripts;
  })();
  return collected;
}

/** For the hypervisor, once per server: afterwards no guest meets NOSCRIPT. */
export async function preloadBullScripts(redis: Redis): Promise<void> {
  const pipeline = redis.pipeline();
  for (const script of await bullScripts()) pipeline.script('LOAD', script.lua);
  for (const [error] of (await pipeline.exec()) ?? []) if (error) throw error;
}

/** Defines every script command of this connection as a plain EVALSHA; BullMQ leaves defined commands alone. */
export async function useScriptsByHash(redis: Redis): Promise<void> {
  for (const { command, sha, keys } of await bullScripts()) {
    const call = (args: (string | number | Buffer)[]): Promise<unknown> => redis.evalsha(sha, keys, ...args);
    Object.defineProperty(redis, command, { value: call, configurable: true, writable: true });
  }
}
