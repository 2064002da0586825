// Hypercalls of one vCPU in a spec's thread, straight to the dispatcher, as a pCPU with nothing else to do would run them: a call
// that blocks on lending sleeps until something is lent, or until the spec says stop.

import type { Domain } from '#model/domain/domain';
import { domainRecord } from '#model/domain/domain-record';
import type { Host } from '#model/host';
import type { Answer, AnswerOf, Call, Hypercalls } from '#model/hypercall/calls';
import { type ContinuationState, runCall } from '#model/hypercall/dispatch';
import { runQueuedFrees } from '#model/iommu/iommu';

/** The spec has ended while a call was blocked. */
export class Stopped extends Error {}

export class DirectPort implements Hypercalls {
  private readonly h: Host;
  private readonly domain: Domain;
  private readonly stopped: () => boolean;

  constructor(h: Host, domain: Domain, stopped: () => boolean = () => false) {
    this.h = h;
    this.domain = domain;
    this.stopped = stopped;
  }

  call<C extends Call>(call: C): AnswerOf<C['op']> {
    const caller = { domain: this.domain, vcpu: 0, preempt: () => false };
    let state: ContinuationState | null = null;
    for (;;) {
      const outcome = runCall(this.h, caller, call, state);
      runQueuedFrees(this.h);
      if (outcome.end === 'done') return outcome.answer as AnswerOf<C['op']>; // each handler answers in its op's shape
      state = outcome.state;
      if (outcome.end === 'blocked') this.sleep(outcome.on);
    }
  }

  private sleep(on: { readonly on: string; readonly domid?: number; readonly seen?: number }): void {
    const d = on.on === 'lend' ? this.h.domain(on.domid ?? -1) : null;
    if (!d) throw new Error(`a call is blocked on ${JSON.stringify(on)}`);
    const at = domainRecord.at.lendEvents;
    while (Atomics.load(d.r.words, at) === on.seen) {
      if (this.stopped()) throw new Stopped();
      Atomics.wait(d.r.words, at, on.seen ?? 0, 1);
    }
  }

  multicall(calls: readonly Call[]): readonly Answer[] {
    return calls.map((call) => this.call(call));
  }
}
