// The rules of access for this process: its own address and token, and how often a visitor may ask.
import { Inject, Injectable } from '@nestjs/common';
import { DASHBOARD_CONFIG, type DashboardConfig } from '../config.ts';
import { bearerOf, type Right, rightOf, type Visitor } from './access.ts';
import { RateLimit } from './rate-limit.ts';

const READS = { perSecond: 50, burst: 200 };
const CHANGES = { perSecond: 5, burst: 20 };
/** Tries with a wrong token. */
const WRONG_TOKENS = { perSecond: 0.2, burst: 10 };

export interface Headers {
  readonly host?: string | undefined;
  readonly origin?: string | undefined;
  readonly authorization?: string | undefined;
}

@Injectable()
export class AccessService {
  private readonly config: DashboardConfig;
  private readonly reads = new RateLimit(READS);
  private readonly changes = new RateLimit(CHANGES);
  private readonly wrong = new RateLimit(WRONG_TOKENS);

  constructor(@Inject(DASHBOARD_CONFIG) config: DashboardConfig) {
    this.config = config;
  }

  /** `token`: given elsewhere than in the headers. */
  rightOf(headers: Headers, address: string, token?: string): Right {
    const visitor: Visitor = {
      host: headers.host,
      origin: headers.origin,
      token: token ?? bearerOf(headers.authorization),
    };
    const right = rightOf(visitor, this.config);
    if (visitor.token === undefined || right === 'change') return right;
    // A wrong token: whoever guesses is shut out for a while, also from what is open.
    return this.wrong.take(address, performance.now()) ? right : 'none';
  }

  mayAsk(visitor: string): boolean {
    return this.reads.take(visitor, performance.now());
  }

  mayChange(visitor: string): boolean {
    return this.changes.take(visitor, performance.now());
  }
}
