// The `xl` queue: takes one verb after another (several at a time; what must not overlap is kept apart by xl's lock), runs it and
// answers what xl would have printed.
import { Inject, Injectable } from '@nestjs/common';
import { type ControlServer, serveControl, xlControl } from '#wire/control';
import type { XlReply, XlRequest } from '#wire/messages';
import { TOOLSTACK_CONFIG, type ToolstackConfig } from './config.ts';
import { Dom0Service } from './dom0.service.ts';
import { DomainsService } from './domains.service.ts';
import { PlacementService } from './placement.service.ts';
import { SqueezedService } from './squeezed.service.ts';
import { refused, type Toolstack, XlFailure } from './verbs/verb.ts';
import { verbs } from './verbs/verbs.ts';
import { XenstoreService } from './xenstore.service.ts';

const CONCURRENCY = 16;

@Injectable()
export class XlService {
  readonly #xl: Toolstack;
  #server: ControlServer | null = null;

  constructor(
    @Inject(TOOLSTACK_CONFIG) config: ToolstackConfig,
    @Inject(Dom0Service) dom0: Dom0Service,
    @Inject(DomainsService) domains: DomainsService,
    @Inject(PlacementService) placement: PlacementService,
    @Inject(SqueezedService) squeezed: SqueezedService,
    @Inject(XenstoreService) xenstore: XenstoreService,
  ) {
    this.#xl = { config, dom0, domains, placement, squeezed, xenstore };
  }

  async start(): Promise<void> {
    this.#server = await serveControl({
      connection: this.#xl.dom0.redis,
      hostId: this.#xl.config.hostId,
      control: xlControl,
      concurrency: CONCURRENCY,
      handler: (request) => this.answer(request),
    });
  }

  async stop(): Promise<void> {
    await this.#server?.close();
  }

  async answer({ verb: name, args }: XlRequest): Promise<XlReply> {
    const verb = verbs.get(name);
    // xl's own sentence; what there is instead is ours to tell.
    if (!verb) return refused(`command not implemented\n  known: ${[...verbs.keys()].join(', ')}`);
    try {
      return await verb(this.#xl, args);
    } catch (error) {
      if (error instanceof XlFailure) return error.reply;
      return refused(`xl ${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}
