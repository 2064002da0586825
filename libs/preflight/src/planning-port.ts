// The hypervisor as a planner needs it: it keeps count of what firmware populates, grants a page as long as the domain stays
// within its limit, and lets RAM be moved. Owns no memory; what firmware decides with it is the model's.
import type { Answer, AnswerOf, Call, Hypercalls } from '#model/hypercall/calls';
import { errno } from '#model/hypercall/errno';

export class PlanningPort implements Hypercalls {
  /** Frames that firmware had populated, in the order it asked. */
  readonly populated: number[] = [];
  #left: number;

  /** `spare`: pages the domain may still get before its limit (domctl max_mem). */
  constructor(spare: number) {
    this.#left = spare;
  }

  call<C extends Call>(call: C): AnswerOf<C['op']> {
    return this.#answer(call) as AnswerOf<C['op']>; // rc is what every answer has, and all that firmware looks at
  }

  multicall(calls: readonly Call[]): readonly Answer[] {
    return calls.map((call) => this.call(call));
  }

  #answer(call: Call): { rc: number } {
    if (call.op === 'add_to_physmap') return { rc: 0 };
    if (call.op !== 'populate_physmap' || !('start' in call.extents)) return { rc: -errno.ENOSYS };
    const pages = Math.min(call.extents.count, Math.max(0, this.#left));
    this.#left -= pages;
    for (let i = 0; i < pages; i++) this.populated.push(call.extents.start + i);
    return { rc: pages };
  }
}
