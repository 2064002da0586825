// squeezed, XenServer's memory daemon, as a service of this toolstack: one request at a time, and where the host has it, a look
// every ten seconds whether memory should move. The policy is the model's; here are the lock, the clock and the timer.
import { randomUUID } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import type { SqueezedSettings } from '#model/toolstack/squeezed-loop';
import type { SqueezedStart } from '#model/toolstack/squeezed-start';
import { TOOLSTACK_CONFIG, type ToolstackConfig } from './config.ts';
import type { OperationArgs, OperationName, OperationResult } from './dom0/operations.ts';
import { OperationsService } from './operations.service.ts';

const BALANCE_EVERY_MS = 10_000;
/** Under which name this toolstack reserves memory. */
const SERVICE = 'xl';

@Injectable()
export class SqueezedService {
  readonly #config: ToolstackConfig;
  readonly #operations: OperationsService;
  /** The end of the request that is served, or of the last that waits. */
  #busy: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(
    @Inject(TOOLSTACK_CONFIG) config: ToolstackConfig,
    @Inject(OperationsService) operations: OperationsService,
  ) {
    this.#config = config;
    this.#operations = operations;
  }

  /** Whether this host's guests are sized by squeezed. */
  get isOn(): boolean {
    return this.#config.knobs.squeezed;
  }

  /** What an earlier toolstack had reserved is free again. */
  async start(): Promise<void> {
    await this.run('login', [SERVICE]);
    if (!this.isOn) return;
    const everyMs = BALANCE_EVERY_MS / this.#config.knobs.timeScale;
    this.#timer = setInterval(() => void this.#look().catch(() => {}), everyMs); // the hypervisor may be going
  }

  stop(): void {
    if (this.#timer) clearInterval(this.#timer);
  }

  settings(): SqueezedSettings {
    const { keepFreeKib, timeScale } = this.#config.knobs;
    return { keepFreeKb: keepFreeKib, nowMs: Date.now() * timeScale };
  }

  /** What a domain is started with; null on a host without squeezed. */
  startOfDomain(): SqueezedStart | null {
    if (!this.isOn) return null;
    return { ...this.settings(), reservation: { service: SERVICE, id: randomUUID() }, range: null };
  }

  /** After all requests before it. */
  locked<T>(work: () => Promise<T>): Promise<T> {
    this.#waiting++;
    const mine = this.#busy.then(work, work).finally(() => this.#waiting--);
    this.#busy = mine.catch(() => {});
    return mine;
  }

  /** A request of squeezed; none of them touches a guest's process. */
  run<N extends OperationName>(name: N, args: OperationArgs<N>): Promise<OperationResult<N>> {
    return this.locked(() => this.#operations.run(name, args, () => Promise.resolve({ ok: true })));
  }

  /** A look that has to wait can as well be the next. */
  async #look(): Promise<void> {
    if (this.#waiting > 0) return;
    await this.run('autoBalance', [this.settings()]);
  }
}
