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

/** Sends a request for the guest in `slot` and waits for its answer. `serve`: the mediator runs on this very thread. */
export function ask(h: Host, gpu: GpuState, { slot, kind, a, b, c }: Request, serve: (() => void) | null): number {
  const { requestWords: words, requests } = gpu;
  const at = slot * 2;
  const wait = (what: string, ready: () => boolean): void =>
    h.lockTable.waitUntil(words, at, () => `the mediator of GPU ${gpu.index} to ${what}`, ready);
  // Another vCPU of the guest may have one under way.
  wait('be free', () => Atomics.compareExchange(words, at, state.none, state.claimed) === state.none);
  words[at + 1] = kind;
  requests.set([a, b, c, 0], slot * REQUEST_CELLS);
  Atomics.store(words, at, state.ready);
  Atomics.add(words, doorbell(gpu), 1);
  Atomics.notify(words, doorbell(gpu));
  if (serve !== null) serve();
  wait('answer', () => Atomics.load(words, at) === state.responseReady);
  const result = requests[slot * REQUEST_CELLS + 3] as number;
  Atomics.store(words, at, state.none);
  Atomics.notify(words, at);
  return result;
}

/** Answers every request that is ready; how many there were. */
export function answerAll(gpu: GpuState, answer: (request: Request) => number): number {
  const { requestWords: words, requests } = gpu;
  let answered = 0;
  for (let slot = 0; slot * 2 < doorbell(gpu); slot++) {
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
  return answered;
}
