// Safepoints: all pCPUs parked between calls, DMA drained, and then the state invariants are checked by the main thread. One at a
// time. It owns the parking protocol's main side; the invariants are the model's.
import { setTimeout as sleep } from 'node:timers/promises';
import { Inject, Injectable } from '@nestjs/common';
import type { Violation } from '#model/host';
import { checkInvariants, invariants } from '#model/invariants/check';
import { HostService } from './host.service.ts';

/** A call yields within a slice; longer means that a thread waits for a lock, whose own watchdog panics after 10 s. */
const PARK_TIMEOUT_MS = 15_000;
const POLL_MS = 1;

export interface InvariantReport {
  readonly checked: readonly string[];
  readonly violations: readonly Violation[];
  readonly ms: number;
}

@Injectable()
export class SafepointService {
  private readonly host: HostService;
  private last: Promise<unknown> = Promise.resolve();

  constructor(@Inject(HostService) host: HostService) {
    this.host = host;
  }

  /** Runs `look` while the host stands still. It must not wait. */
  at<T>(look: () => T): Promise<T> {
    const turn = this.last.then(() => this.stopAndLook(look));
    this.last = turn.catch(() => {});
    return turn;
  }

  async checkInvariants(): Promise<InvariantReport> {
    return this.at(() => {
      const start = performance.now();
      const violations = checkInvariants(this.host.host);
      return { checked: invariants.map(({ name }) => name), violations, ms: performance.now() - start };
    });
  }

  private async stopAndLook<T>(look: () => T): Promise<T> {
    const { words, host } = this.host;
    const generation = words.requestPark();
    this.host.ringDevices();
    try {
      const deadline = performance.now() + PARK_TIMEOUT_MS;
      for (;;) {
        const running = words.notParked(generation);
        if (running.length === 0) break;
        host.panicCell.check();
        if (performance.now() > deadline)
          throw new Error(`threads ${running.join(', ')} did not park in ${PARK_TIMEOUT_MS} ms`);
        await sleep(POLL_MS);
      }
      return look();
    } finally {
      words.releasePark();
    }
  }
}
