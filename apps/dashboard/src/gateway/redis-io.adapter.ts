// socket.io over Redis streams: what is broadcast is kept in a stream for a while, so that a page that was away for a moment gets what
// it missed, also from another server. Who may connect is asked before the connection stands.
import type { IncomingMessage } from 'node:http';
import type { INestApplicationContext } from '@nestjs/common';
import { IoAdapter } from '@nestjs/platform-socket.io';
import { createAdapter } from '@socket.io/redis-streams-adapter';
import type { Redis } from 'ioredis';
import type { Server, ServerOptions } from 'socket.io';
import { dashboardKey } from '#wire/names';

/** A page that is away longer begins anew. */
const RECOVERY_MS = 2 * 60_000;
/** Bytes of one message from a page. */
const MESSAGE_MAX = 64 * 1024;
const KEPT = 2000;

export class RedisIoAdapter extends IoAdapter {
  private readonly redis: Redis;
  private readonly hostId: string;
  private readonly admit: (request: IncomingMessage) => boolean;

  constructor(
    app: INestApplicationContext,
    redis: Redis,
    hostId: string,
    admit: (request: IncomingMessage) => boolean,
  ) {
    super(app);
    this.redis = redis;
    this.hostId = hostId;
    this.admit = admit;
  }

  override createIOServer(port: number, options?: ServerOptions): Server {
    const server: Server = super.createIOServer(port, {
      ...options,
      serveClient: false,
      maxHttpBufferSize: MESSAGE_MAX,
      // Middlewares run again for a page that comes back: a right may have been lost meanwhile.
      connectionStateRecovery: { maxDisconnectionDuration: RECOVERY_MS, skipMiddlewares: false },
      allowRequest: (request: IncomingMessage, decide: (error: string | null, allowed: boolean) => void) =>
        decide(null, this.admit(request)),
    } as ServerOptions);
    server.adapter(
      createAdapter(this.redis, {
        streamName: dashboardKey(this.hostId, 'events'),
        sessionKeyPrefix: `${dashboardKey(this.hostId, 'session')}:`,
        maxLen: KEPT,
      }),
    );
    return server;
  }
}
