// A domain's rights in Redis: one user for the guest itself, one for the hypervisor's workers of its queues; made with each
// incarnation, gone with it. It owns which commands and key patterns each has; it knows nothing of what they are used for.
//
// The guest adds to its own vCPU queues, reads its own replies and xenstore, writes its own part of xenstore, and nothing
// else. It may run scripts by hash only. Redis holds a script's commands against its caller's rights too, so a preloaded
// script opens no other domain's keys. Commands inside BullMQ's scripts must be granted one by one for that reason.
// Exhausting the server's memory by filling its own queue is not prevented here.

import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import { preloadBullScripts, useScriptsByHash } from './bull-scripts.ts';
import { asUser, connect, type RedisEndpoint } from './connection.ts';
import {
  aclUser,
  type DomainRole,
  domainKeyPattern,
  epochKey,
  heartbeatKey,
  replyChannel,
  vcpuKeyPattern,
  xenstoreKey,
  xenstoreWatchKey,
} from './names.ts';

export interface UserCredentials {
  readonly username: string;
  readonly password: string;
}

export interface DomainCredentials {
  readonly guest: UserCredentials;
  readonly worker: UserCredentials;
}

/** What the guest's own code calls, and what BullMQ's script for adding a job calls in turn. Nothing is granted by category. */
const guestCommands = [
  ...['+ping', '+subscribe', '+unsubscribe', '+evalsha', '+multi', '+exec'],
  ...['+get', '+incr', '+exists', '+del'],
  ...['+hget', '+hmget', '+hkeys', '+hset', '+hmset', '+hdel'],
  ...['+lpush', '+zadd', '+zrem', '+xadd', '+xread', '+xrevrange'],
];

/** The hypervisor's own code: everything but administration; the key patterns are what holds it. */
const workerCommands = ['+@all', '-@admin', '-@dangerous'];

function rights(hostId: string, domid: number, role: DomainRole): string[] {
  const vcpus = `~${vcpuKeyPattern(hostId, domid)}`;
  const channel = `&${replyChannel(hostId, domid)}`;
  if (role === 'worker') return [vcpus, channel, ...workerCommands];
  return [
    vcpus,
    channel,
    `%R~${xenstoreKey(hostId, domid, 'toolstack')}`,
    `%R~${xenstoreWatchKey(hostId, domid, 'toolstack')}`,
    `~${xenstoreKey(hostId, domid, 'guest')}`,
    `~${xenstoreWatchKey(hostId, domid, 'guest')}`,
    `~${heartbeatKey(hostId, domid)}`,
    `%R~${epochKey(hostId)}`,
    ...guestCommands,
  ];
}

async function grant(redis: Redis, hostId: string, domid: number, incarnation: number, role: DomainRole) {
  const username = aclUser(hostId, domid, incarnation, role);
  const password = randomBytes(24).toString('hex');
  const rules = ['reset', 'on', `>${password}`, ...rights(hostId, domid, role)];
  await redis.acl('SETUSER', username, ...rules);
  return { username, password };
}

/** Run once per hypervisor start, before the first grant. */
export const prepareGrants = (redis: Redis): Promise<void> => preloadBullScripts(redis);

/** Makes the users of a domain's new incarnation. `redis` is an administrator's connection. */
export async function grantDomain(
  redis: Redis,
  hostId: string,
  domid: number,
  incarnation: number,
): Promise<DomainCredentials> {
  return {
    guest: await grant(redis, hostId, domid, incarnation, 'guest'),
    worker: await grant(redis, hostId, domid, incarnation, 'worker'),
  };
}

/** Removes the users; their open connections end at once. */
export async function revokeDomain(redis: Redis, hostId: string, domid: number, incarnation: number): Promise<void> {
  await redis.acl(
    'DELUSER',
    aclUser(hostId, domid, incarnation, 'guest'),
    aclUser(hostId, domid, incarnation, 'worker'),
  );
}

/** Deletes every key whose name matches. Safe beside other work: it scans in steps. */
export async function removeKeys(redis: Redis, pattern: string): Promise<void> {
  let cursor = '0';
  do {
    const [next, keys] = await redis.scan(cursor, 'MATCH', pattern, 'COUNT', 500);
    if (keys.length > 0) await redis.unlink(...keys);
    cursor = next;
  } while (cursor !== '0');
}

/** Deletes what a destroyed domain left: queues, replies, xenstore. After revokeDomain. */
export async function removeDomainKeys(redis: Redis, hostId: string, domid: number): Promise<void> {
  await removeKeys(redis, vcpuKeyPattern(hostId, domid));
  await removeKeys(redis, domainKeyPattern(hostId, domid));
}

/** A guest process's connection: as its own user, scripts by hash. */
export async function connectGuest(
  endpoint: RedisEndpoint,
  guest: UserCredentials,
  onError?: (error: Error) => void,
): Promise<Redis> {
  const redis = connect(asUser(endpoint, guest), onError);
  await useScriptsByHash(redis);
  return redis;
}

/** The hypervisor's connection for the workers of one domain's queues. */
export const connectWorkers = (
  endpoint: RedisEndpoint,
  worker: UserCredentials,
  onError?: (error: Error) => void,
): Redis => connect(asUser(endpoint, worker), onError);
