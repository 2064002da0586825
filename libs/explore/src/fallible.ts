// Which kinds of steps can fail, and with what.
import { errno } from '#model/hypercall/errno';
import type { Litmus } from './litmus.ts';
import { type AnyKindName, kindNumber } from './paper/kinds.ts';

/** The steps that can fail on real hardware or for want of memory, each with its error. */
export const fallibleKinds: Partial<Record<AnyKindName, number>> = {
  ptAlloc: errno.ENOMEM,
  frameAlloc: errno.ENOMEM,
  p2mWrite: errno.ENOMEM,
  ioWrite: errno.ENOMEM,
  ctxWrite: errno.EILSEQ,
  refTake: errno.EINVAL,
  deviceTlbFlush: errno.ETIMEDOUT,
  // of step programs
  p2mClear: errno.ENOMEM,
  ctxSwap: errno.EILSEQ,
  alloc: errno.ENOMEM,
};

/** By kind, what a test lets fail: everything, unless it names some. */
export function fallibleIn({ faults }: Litmus): (number | undefined)[] {
  const wanted: ReadonlySet<string> | null = faults === undefined || faults === 'each' ? null : new Set(faults);
  const list: (number | undefined)[] = [];
  for (const [kind, error] of Object.entries(fallibleKinds)) {
    if (wanted === null || wanted.has(kind)) list[kindNumber(kind as AnyKindName)] = error; // its own keys
  }
  return list;
}
