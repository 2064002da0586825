// A vCPU's hypercalls as steps of its thread, so that a fault plan can delay them, stall them, or fail them before they reach
// the hypervisor. It decides nothing: what fails is the plan's, what the kernel does about it the kernel's.
import type { Answer, AnswerOf, Call, CallOf, Hypercalls, OpName } from '#model/hypercall/calls';
import { step, stepKind } from '#model/shared-memory/step';

/** What a vCPU does in guest mode: it may be late, it cannot fail with an errno. */
const accesses: ReadonlySet<OpName> = new Set(['touch', 'store', 'load', 'verify']);
/** These answer how many extents were done, and never a negative number. */
const counting: ReadonlySet<OpName> = new Set(['populate_physmap', 'increase_reservation', 'decrease_reservation']);

export class SteppedHypercalls implements Hypercalls {
  readonly #port: Hypercalls;
  readonly #domid: number;

  constructor(port: Hypercalls, domid: number) {
    this.#port = port;
    this.#domid = domid;
  }

  call<N extends OpName>(call: CallOf<N> & { readonly op: N }): AnswerOf<N> {
    // One answer for each call, in order, each of its call's kind.
    return this.multicall([call as Call])[0] as AnswerOf<N>;
  }

  multicall(calls: readonly Call[]): readonly Answer[] {
    const failed = calls.map((call) => this.#announce(call));
    if (failed.every((answer) => answer === null)) return this.#port.multicall(calls);
    const answers = this.#port.multicall(calls.filter((_, i) => failed[i] === null));
    let next = 0;
    // The port gave one answer for each call that was sent.
    return failed.map((answer) => answer ?? (answers[next++] as Answer));
  }

  /** The answer of a call that the plan fails; null: it is to be sent. */
  #announce(call: Call): Answer | null {
    if (accesses.has(call.op)) {
      step(stepKind.guestAccess, this.#domid);
      return null;
    }
    const error = step(stepKind.hypercall, this.#domid);
    if (error === 0) return null;
    return { rc: counting.has(call.op) ? 0 : -error };
  }
}
