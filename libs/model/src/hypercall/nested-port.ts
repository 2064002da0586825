// Hypercalls that a CPU makes in the middle of a call: the mediator runs as dom0's vCPU on its pCPU, and calls Xen from there. Each runs
// to its end on this very thread; whose call the CPU executes is put back afterwards. Caller: holds no lock.
import type { Host } from '../host.ts';
import type { Answer, AnswerOf, Call, Hypercalls } from './calls.ts';
import type { Caller, ContinuationState, Outcome } from './continuation.ts';
import { errno } from './errno.ts';

export type RunCall = (h: Host, caller: Caller, call: Call, state: ContinuationState | null) => Outcome;

export function nestedPort(h: Host, caller: Caller, run: RunCall): Hypercalls {
  const inner: Caller = { domain: caller.domain, vcpu: caller.vcpu, preempt: () => false };
  const call = <C extends Call>(c: C): AnswerOf<C['op']> => {
    const { preemptPending } = h;
    let state: ContinuationState | null = null;
    try {
      for (;;) {
        const outcome = run(h, inner, c, state);
        if (outcome.end === 'done') return outcome.answer as AnswerOf<C['op']>; // the dispatcher answers in kind
        // The domain is paused or dying, or waits for a device: there is nobody to wait for it here.
        if (outcome.end === 'blocked') return { rc: -errno.EINTR } as AnswerOf<C['op']>; // every answer has an rc
        state = outcome.state;
      }
    } finally {
      h.current = caller.domain;
      h.currentVcpu = caller.vcpu;
      h.preemptPending = preemptPending;
    }
  };
  return { call, multicall: (calls) => calls.map((c): Answer => call(c)) };
}
