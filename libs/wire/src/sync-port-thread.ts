// A thread's end of a synchronous port: it asks its process's main thread for something and sleeps until the answer is there.
// This is how guest kernels and builders, which are synchronous, make hypercalls over queues. Nothing here knows Redis, so that
// a vCPU thread stays free of it; who answers, and how, is sync-port.ts.
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { Answer, AnswerOf, Call, CallOf, Hypercalls, OpName } from '#model/hypercall/calls';

/** What a thread gets in its workerData; the port must be in the transfer list. */
export interface SyncPortEnd {
  readonly port: MessagePort;
  readonly words: SharedArrayBuffer;
}

/** Words shared by both ends: answers posted so far, and a doorbell for a thread that sleeps between two requests. */
export const syncWord = { answers: 0, doorbell: 1 } as const;
export const SYNC_WORDS = 2;

/** What is asked for: hypercalls, or anything else that the main thread offers under a name. */
export type SyncRequest =
  | { readonly ask: 'calls'; readonly calls: readonly Call[] }
  | { readonly ask: string; readonly args: unknown };

export interface SyncQuestion {
  readonly id: number;
  readonly request: SyncRequest;
}

export type SyncAnswer = { readonly id: number } & (
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly code: string; readonly message: string }
);

/** The main thread could not get an answer. `code` is the transport's, or the name of the error. */
export class SyncPortError extends Error {
  override readonly name = 'SyncPortError';
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** One request at a time. */
export class SyncPort {
  readonly #port: MessagePort;
  readonly #words: Int32Array<SharedArrayBuffer>;
  #lastId = 0;

  constructor({ port, words }: SyncPortEnd) {
    this.#port = port;
    this.#words = new Int32Array(words);
    port.unref(); // it is read synchronously; it must not keep an ended thread alive
  }

  /** Blocks until the main thread has answered. Throws SyncPortError. */
  request(request: SyncRequest): unknown {
    const id = ++this.#lastId;
    const question: SyncQuestion = { id, request };
    let seen = Atomics.load(this.#words, syncWord.answers);
    this.#port.postMessage(question);
    for (;;) {
      const received = receiveMessageOnPort(this.#port);
      if (!received) {
        Atomics.wait(this.#words, syncWord.answers, seen);
        seen = Atomics.load(this.#words, syncWord.answers);
        continue;
      }
      const answer: SyncAnswer = received.message; // sent by this process's own sync-port.ts
      if (answer.id !== id) continue;
      if (!answer.ok) throw new SyncPortError(answer.code, answer.message);
      return answer.value;
    }
  }

  /** To be read before looking for work, so that a ring in between is not slept through. */
  doorbell(): number {
    return Atomics.load(this.#words, syncWord.doorbell);
  }

  /** Sleeps until the doorbell is no longer `seen`, at most `ms`. */
  sleep(seen: number, ms: number): void {
    Atomics.wait(this.#words, syncWord.doorbell, seen, ms);
  }
}

/** The hypercall port of a vCPU that lives in a thread. */
export class PortHypercalls implements Hypercalls {
  readonly #port: SyncPort;

  constructor(port: SyncPort) {
    this.#port = port;
  }

  call<N extends OpName>(call: CallOf<N> & { readonly op: N }): AnswerOf<N> {
    // Answers come one for each call, in order, each of its call's kind: the main thread checks their number.
    return this.multicall([call as Call])[0] as AnswerOf<N>;
  }

  multicall(calls: readonly Call[]): readonly Answer[] {
    if (calls.length === 0) return [];
    return this.#port.request({ ask: 'calls', calls }) as readonly Answer[]; // see `call`
  }
}
