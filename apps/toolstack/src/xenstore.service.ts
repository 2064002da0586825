// The toolstack's view of xenstore: one handle per domain, made when first used.
import { Inject, Injectable } from '@nestjs/common';
import { xenstoreKey, xenstoreWatchKey } from '#wire/names';
import { DomainXenstore } from '#wire/xenstore';
import { TOOLSTACK_CONFIG, type ToolstackConfig } from './config.ts';
import { Dom0Service } from './dom0.service.ts';

@Injectable()
export class XenstoreService {
  readonly #config: ToolstackConfig;
  readonly #dom0: Dom0Service;
  readonly #domains = new Map<number, DomainXenstore>();

  constructor(@Inject(TOOLSTACK_CONFIG) config: ToolstackConfig, @Inject(Dom0Service) dom0: Dom0Service) {
    this.#config = config;
    this.#dom0 = dom0;
  }

  of(domid: number): DomainXenstore {
    let domain = this.#domains.get(domid);
    if (!domain) {
      domain = new DomainXenstore({ redis: this.#dom0.redis, hostId: this.#config.hostId, domid, writer: 'toolstack' });
      this.#domains.set(domid, domain);
    }
    return domain;
  }

  async removeDomain(domid: number): Promise<void> {
    this.#domains.get(domid)?.close();
    this.#domains.delete(domid);
    const { hostId } = this.#config;
    const writers = ['toolstack', 'guest'] as const;
    const keys = writers.flatMap((who) => [xenstoreKey(hostId, domid, who), xenstoreWatchKey(hostId, domid, who)]);
    await this.#dom0.redis.unlink(...keys);
  }

  stop(): void {
    for (const domain of this.#domains.values()) domain.close();
  }
}
