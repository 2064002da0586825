// For the specs of guest code only: a hypervisor that is one set of backed frames and a budget, with the calls' return
// conventions. The real one is driven in guest-kernel.spec.ts.
import {
  type Answer,
  type AnswerOf,
  type Call,
  type CallOf,
  type Extents,
  extentAt,
  extentCount,
  type Hypercalls,
  type OpName,
} from '#model/hypercall/calls';
import { errno } from '#model/hypercall/errno';

function frames(extents: Extents, order = 0): number[] {
  const list: number[] = [];
  for (let i = 0; i < extentCount(extents); i++) {
    for (let j = 0; j < 2 ** order; j++) list.push(extentAt(extents, i, order) + j);
  }
  return list;
}

export class PlainHypervisor implements Hypercalls {
  readonly tags = new Map<number, number>();
  readonly log: Call[] = [];
  /** Frames it can still give out. */
  budget = 0;
  /** Extents that the next decrease does not do, though it should. */
  decreaseShort = 0;

  constructor(ranges: readonly { start: number; end: number }[]) {
    for (const { start, end } of ranges) for (let g = start; g < end; g++) this.tags.set(g, 0);
  }

  calls<N extends OpName>(op: N): CallOf<N>[] {
    return this.log.filter((call): call is CallOf<N> => call.op === op);
  }

  call<C extends Call>(call: C): AnswerOf<C['op']> {
    this.log.push(call);
    return this.answer(call) as AnswerOf<C['op']>; // answer() gives each op its own shape
  }

  multicall(calls: readonly Call[]): readonly Answer[] {
    return calls.map((call) => {
      this.log.push(call);
      return this.answer(call);
    });
  }

  private answer(call: Call): Answer {
    switch (call.op) {
      case 'populate_physmap':
        return { rc: this.populate(call.extents, call.order) };
      case 'decrease_reservation':
        return { rc: this.decrease(call.extents, call.order) };
      case 'add_to_physmap_batch':
        for (const gpfn of frames(call.gpfns)) this.tags.set(gpfn, 0);
        return { rc: 0, errs: frames(call.gpfns).map(() => 0) };
      case 'remove_from_physmap':
        return { rc: this.tags.delete(call.gpfn) ? 0 : -errno.ENOENT };
      case 'touch':
        return { rc: 0, done: extentCount(call.frames), faulted: this.missing(call.frames) };
      case 'store':
        for (const g of frames(call.frames)) if (this.tags.has(g)) this.tags.set(g, call.tag);
        return { rc: 0, done: extentCount(call.frames), faulted: this.missing(call.frames) };
      case 'verify': {
        const bad = frames(call.frames).filter((g) => this.tags.get(g) !== call.tag);
        return { rc: 0, bad: bad.length, firstBad: bad[0] ?? -1, found: this.tags.get(bad[0] ?? -1) ?? 0, faulted: 0 };
      }
      default:
        return { rc: 0 };
    }
  }

  private missing(extents: Extents): number {
    return frames(extents).filter((g) => !this.tags.has(g)).length;
  }

  private populate(extents: Extents, order: number): number {
    let done = 0;
    while (done < extentCount(extents) && this.budget >= 2 ** order) {
      this.budget -= 2 ** order;
      for (let j = 0; j < 2 ** order; j++) this.tags.set(extentAt(extents, done, order) + j, 0);
      done++;
    }
    return done;
  }

  private decrease(extents: Extents, order: number): number {
    const count = extentCount(extents) - this.decreaseShort;
    for (let i = 0; i < count; i++) {
      for (let j = 0; j < 2 ** order; j++) this.tags.delete(extentAt(extents, i, order) + j);
    }
    this.budget += count * 2 ** order;
    return count;
  }
}
