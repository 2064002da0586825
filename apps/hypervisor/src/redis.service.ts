// The process's own connection to Redis, with an administrator's rights. Reconnects by itself; errors are said once per minute.
import { Inject, Injectable } from '@nestjs/common';
import type { Redis } from 'ioredis';
import { connect } from '#wire/connection';
import { HYPERVISOR_CONFIG, type HypervisorConfig } from './config.ts';

const SAY_EVERY_MS = 60_000;

@Injectable()
export class RedisService {
  readonly redis: Redis;
  private saidAt = 0;

  constructor(@Inject(HYPERVISOR_CONFIG) config: HypervisorConfig) {
    this.redis = connect(config.redis, (error) => this.say(error));
  }

  get reachable(): boolean {
    return this.redis.status === 'ready';
  }

  /** For errors of any connection of this process. */
  say(error: Error): void {
    if (Date.now() - this.saidAt < SAY_EVERY_MS) return;
    this.saidAt = Date.now();
    process.stderr.write(`Redis: ${error.message}\n`);
  }

  close(): void {
    this.redis.disconnect();
  }
}
