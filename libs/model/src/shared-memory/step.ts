// The seam: the one place where model code meets the world that drives it. Every access to state that another CPU or
// device can see is announced here *before* it happens, so that
//   live     nothing happens (an empty monomorphic call), or a fault plan delays, stalls or fails the n-th step of a kind;
//   explore  a scheduler decides who runs next;
//   timed    a cost is charged to a virtual clock.
// A thread chooses its seam once, before it touches the model, and never switches: the call site stays monomorphic and
// costs 0.3-0.6 ns (DESIGN 2). This file knows nothing of what a step means.

/** What is about to happen. The names are the field's (advisories fact sheet, section I). */
export const stepKind = {
  lock: 0,
  unlock: 1,
  read: 2,
  write: 3,
  count: 4,
  p2mRead: 5,
  p2mWrite: 6,
  m2pWrite: 7,
  ptAlloc: 8,
  ptWrite: 9,
  ptFree: 10,
  ioWrite: 11,
  ctxWrite: 12,
  cpuFlush: 13,
  cpuFlushDefer: 14,
  iotlbFlush: 15,
  frameAlloc: 16,
  frameFree: 17,
  refTake: 18,
  refDrop: 19,
  scrub: 20,
  cacheAdd: 21,
  cacheGet: 22,
  dma: 23,
  hwWalk: 24,
  guestAccess: 25,
  yield: 26,
  deviceAttach: 27,
  tlbFill: 28,
  waitFor: 29,
  hypercall: 30,
  /** A unit carries out one descriptor of its invalidation queue. */
  hwFlush: 31,
  /** A device is asked to drop entries of its own TLB; a failure is a time-out. */
  deviceTlbFlush: 32,
  /** A lock is taken if it is free; never waits. */
  tryLock: 33,
  /** A mediator stores an entry of a shadow GPU table. */
  shadowWrite: 34,
  /** A GPU forgets translations of its own; complete on return. */
  gpuTlbFlush: 35,
  /** A GPU reads an entry of its page table. */
  gpuWalk: 36,
} as const;

export type StepKindName = keyof typeof stepKind;
export type StepKind = (typeof stepKind)[StepKindName];

/**
 * What drives a thread. `step` answers 0, or a positive errno that the caller must treat as the failure of the step.
 * `park` blocks until `words[index] !== expected` is likely, at most `ms`; spurious returns are fine.
 * `nowNs` is for profiles only: no decision of the model may depend on it.
 */
export interface Seam {
  step(kind: StepKind, where: number): number;
  park(words: Int32Array<SharedArrayBuffer>, index: number, expected: number, ms: number): void;
  nowNs(): number;
}

const idle: Seam = {
  step: () => 0,
  park: (words, index, expected, ms) => {
    Atomics.wait(words, index, expected, ms);
  },
  nowNs: () => 0,
};

export let step: Seam['step'] = idle.step;
export let park: Seam['park'] = idle.park;
export let nowNs: Seam['nowNs'] = idle.nowNs;
let installed = false;

/** Once per thread, before the first step. A second seam in one thread is a programmer's mistake. */
export function installSeam(seam: Partial<Seam>): void {
  if (installed) throw new Error('installSeam: this thread already has its seam');
  installed = true;
  if (seam.step) step = seam.step;
  if (seam.park) park = seam.park;
  if (seam.nowNs) nowNs = seam.nowNs;
}
