// The order in which the toolstack comes up and goes down: the hypervisor first, then what watches domains, then the verbs.
import { Inject, Injectable } from '@nestjs/common';
import { Dom0Service } from './dom0.service.ts';
import { LifecycleService } from './lifecycle.service.ts';
import { OperationsService } from './operations.service.ts';
import { PlacementService } from './placement.service.ts';
import { SqueezedService } from './squeezed.service.ts';
import { XenstoreService } from './xenstore.service.ts';
import { XlService } from './xl.service.ts';

const FAREWELL_MS = 500;

@Injectable()
export class ToolstackService {
  readonly #dom0: Dom0Service;
  readonly #operations: OperationsService;
  readonly #placement: PlacementService;
  readonly #lifecycle: LifecycleService;
  readonly #squeezed: SqueezedService;
  readonly #xenstore: XenstoreService;
  readonly #xl: XlService;

  constructor(
    @Inject(Dom0Service) dom0: Dom0Service,
    @Inject(OperationsService) operations: OperationsService,
    @Inject(PlacementService) placement: PlacementService,
    @Inject(LifecycleService) lifecycle: LifecycleService,
    @Inject(SqueezedService) squeezed: SqueezedService,
    @Inject(XenstoreService) xenstore: XenstoreService,
    @Inject(XlService) xl: XlService,
  ) {
    this.#dom0 = dom0;
    this.#operations = operations;
    this.#placement = placement;
    this.#lifecycle = lifecycle;
    this.#squeezed = squeezed;
    this.#xenstore = xenstore;
    this.#xl = xl;
  }

  /** Settles when verbs are taken. `onGone`: the hypervisor is no more, and with it everything this process knew. */
  async start(onGone: (why: string) => void): Promise<void> {
    await this.#dom0.start(onGone);
    await this.#squeezed.start();
    await this.#lifecycle.start();
    await this.#xl.start();
  }

  async stop(): Promise<void> {
    this.#lifecycle.stop();
    this.#squeezed.stop();
    const goodbye = async (): Promise<void> => {
      await this.#xl.stop();
      await Promise.all([this.#placement.stop(), this.#operations.stop()]);
      this.#xenstore.stop();
      await this.#dom0.stop();
    };
    // Redis that does not answer must not keep a process that was told to end.
    await Promise.race([goodbye().catch(() => {}), new Promise((resolve) => setTimeout(resolve, FAREWELL_MS))]);
  }
}
