// The process's own connection to Redis, with an administrator's rights. Reconnects by itself; errors are said once per minute, and a server that stays away is noticed.
import { Inject, Injectable } from '@nestjs/common';
import type { Redis } from 'ioredis';
import { connect } from '#wire/connection';
import { HYPERVISOR_CONFIG, type HypervisorConfig } from './config.ts';

const SAY_EVERY_MS = 60_000;
const LOST_MS = 30_000;
const LOOK_MS = 1000;

@Injectable()
export class RedisService {
  readonly redis: Redis;
  private saidAt = 0;
  private timer: NodeJS.Timeout | undefined;

  constructor(@Inject(HYPERVISOR_CONFIG) config: HypervisorConfig) {
    this.redis = connect(config.redis, (error) => this.say(error));
  }

  get reachable(): boolean {
    return this.redis.status === 'ready';
  }

  /** Calls back once when Redis has been away for so long that it will not come back: a private server dies with its starter. */
  onLost(lost: () => void): void {
    let awaySince = 0;
    this.timer = setInterval(() => {
      if (this.reachable) awaySince = 0;
      else if (awaySince === 0) awaySince = performance.now();
      else if (performance.now() - awaySince > LOST_MS) {
        clearInterval(this.timer);
        lost();
      }
    }, LOOK_MS);
  }

  /** For errors of any connection of this process. */
  say(error: Error): void {
    if (Date.now() - this.saidAt < SAY_EVERY_MS) return;
    this.saidAt = Date.now();
    process.stderr.write(`Redis: ${error.message}\n`);
  }

  close(): void {
    clearInterval(this.timer);
    this.redis.disconnect();
  }
}
