// How a process reaches Redis: an endpoint (socket path or URL, with credentials) and the one way to open a connection to
// it. It knows no key and no queue.

import { Redis } from 'ioredis';

export interface Credentials {
  readonly username?: string;
  readonly password?: string;
}

/** Where a Redis server listens: a unix socket, or a `redis://`, `rediss://` or `unix://` URL. */
export type RedisEndpoint = Credentials & ({ readonly path: string } | { readonly url: string });

/** The same server, as another user. */
export function asUser(endpoint: RedisEndpoint, user: Required<Credentials>): RedisEndpoint {
  const where = 'path' in endpoint ? { path: endpoint.path } : { url: endpoint.url };
  return { ...where, username: user.username, password: user.password };
}

function place(endpoint: RedisEndpoint) {
  if ('path' in endpoint) return { path: endpoint.path };
  const url = new URL(endpoint.url);
  if (url.protocol === 'unix:') return { path: url.pathname };
  if (url.protocol !== 'redis:' && url.protocol !== 'rediss:') {
    throw new Error(`Redis URL ${endpoint.url}: scheme must be redis:, rediss: or unix:`);
  }
  const db = Number(url.pathname.slice(1) || 0);
  return {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: Number(url.port || 6379),
    ...(Number.isInteger(db) && db > 0 ? { db } : {}),
    ...(url.protocol === 'rediss:' ? { tls: {} } : {}),
  };
}

function credentials(endpoint: RedisEndpoint): Credentials {
  const url = 'url' in endpoint ? new URL(endpoint.url) : undefined;
  const username = endpoint.username ?? decodeURIComponent(url?.username ?? '');
  const password = endpoint.password ?? decodeURIComponent(url?.password ?? '');
  return { ...(username === '' ? {} : { username }), ...(password === '' ? {} : { password }) };
}

/**
 * Options for ioredis, as an inferred literal (bullmq's and ioredis' option types do not match under
 * exactOptionalPropertyTypes). No INFO and no CLIENT SETINFO at start: a guest's user may not call them.
 */
export function redisOptions(endpoint: RedisEndpoint) {
  return {
    ...place(endpoint),
    ...credentials(endpoint),
    maxRetriesPerRequest: null,
    enableReadyCheck: false,
    disableClientInfo: true,
    retryStrategy: (attempt: number): number => Math.min(50 * 2 ** attempt, 1000),
  };
}

/** Opens a connection; it reconnects by itself. Errors are repeated by each reconnect, so they go to `onError` only. */
export function connect(endpoint: RedisEndpoint, onError: (error: Error) => void = () => {}): Redis {
  const redis = new Redis(redisOptions(endpoint));
  redis.on('error', onError);
  return redis;
}
