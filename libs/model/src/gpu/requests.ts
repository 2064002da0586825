// What passes between a guest's vCPU and the mediator: one request at a time per guest, in shared memory, as an ioreq page has it.
// Trapped table writes (COPY), writes to the global table (MMIO), notifications through PVINFO, submissions, invalidations. The
// vCPU waits for the answer, holding no lock and not in guest mode. It knows nothing of what a request means.
import type { Host } from '../host.ts';
import type { GpuState } from './gpu-memory.ts';
import { REQUEST_CELLS } from './gpu-memory.ts';

export const requestKind = {
  pteWrite: 1,
  globalWrite: 2,
  notify: 3,
  submit: 4,
  /** The guest's command to forget translations. */
  tlbInvalidate: 5,
  /** IOREQ_TYPE_INVALIDATE: memory left the guest. */
  invalidate: 6,
} as const;

/** STATE_IOREQ_* */
const state = { none: 0, ready: 1, inProcess: 2, responseReady: 3, claimed: 4 } as const;

export interface Request {
  readonly slot: number;
  readonly kind: number;
  readonly a: number;
  readonly b: number;
  readonly c: number;
}

const doorbell = (gpu: GpuState): number => gpu.requestWords.length - 1;
const serving = (gpu: GpuState): number => gpu.requestWords.length - 2;

/** Changes whenever something happened that a vCPU may wait for: a request, an answer, the end of a job. */
export const newsSeen = (gpu: GpuState): number => Atomics.load(gpu.requestWords, doorbell(gpu));

/** Tells whoever waits for news of that GPU to look again. */
export function ring(gpu: GpuState): void {
  Atomics.add(gpu.requestWords, doorbell(gpu), 1);
  Atomics.notify(gpu.requestWords, doorbell(gpu));
}

/** Puts a request into the guest's page and rings. False: one is under way there. */
export function post(gpu: GpuState, { slot, kind, a, b, c }: Request): boolean {
  const { requestWords: words, requests } = gpu;
  const at = slot * 2;
  // Another vCPU of the guest may have one under way.
  if (Atomics.compareExchange(words, at, state.none, state.claimed) !== state.none) return false;
  words[at + 1] = kind;
  requests.set([a, b, c, 0], slot * REQUEST_CELLS);
  Atomics.store(words, at, state.ready);
  ring(gpu);
  return true;
}

/** The answer to what was posted, given once; null: there is none yet. */
export function collect(gpu: GpuState, slot: number): number | null {
  const { requestWords: words, requests } = gpu;
  const at = slot * 2;
  if (Atomics.load(words, at) !== state.responseReady) return null;
  const result = requests[slot * REQUEST_CELLS + 3] as number;
  Atomics.store(words, at, state.none);
  Atomics.notify(words, at);
  return result;
}

/** What a dead guest left in its page is nobody's. */
export function forget(gpu: GpuState, slot: number): void {
  Atomics.store(gpu.requestWords, slot * 2, state.none);
}

/** Sends a request for the guest in `slot` and waits for its answer. `serve`: the mediator runs on this very thread. */
export function ask(h: Host, gpu: GpuState, request: Request, serve: (() => void) | null): number {
  const { slot } = request;
  const wait = (what: string, ready: () => boolean): void =>
    h.lockTable.waitUntil(gpu.requestWords, slot * 2, () => `the mediator of GPU ${gpu.index} to ${what}`, ready);
  wait('be free', () => post(gpu, request));
  if (serve !== null) serve();
  let result: number | null = null;
  wait('answer', () => {
    result = collect(gpu, slot);
    return result !== null;
  });
  return result ?? 0;
}

/** Runs `work` as the one who serves that GPU's requests; null: somebody does already. */
export function whileServing<T>(gpu: GpuState, work: () => T): T | null {
  const { requestWords: words } = gpu;
  if (Atomics.compareExchange(words, serving(gpu), 0, 1) !== 0) return null;
  try {
    return work();
  } finally {
    Atomics.store(words, serving(gpu), 0);
  }
}

/** Answers every request that is ready; how many there were. */
export function answerAll(gpu: GpuState, answer: (request: Request) => number): number {
  const { requestWords: words, requests } = gpu;
  let answered = 0;
  for (let slot = 0; slot * 2 < serving(gpu); slot++) {
    if (Atomics.compareExchange(words, slot * 2, state.ready, state.inProcess) !== state.ready) continue;
    const [a, b, c] = requests.subarray(slot * REQUEST_CELLS, slot * REQUEST_CELLS + 3) as unknown as [
      number,
      number,
      number,
    ]; // three cells
    requests[slot * REQUEST_CELLS + 3] = answer({ slot, kind: words[slot * 2 + 1] as number, a, b, c });
    Atomics.store(words, slot * 2, state.responseReady);
    Atomics.notify(words, slot * 2);
    answered++;
  }
  if (answered > 0) ring(gpu);
  return answered;
}
