// The main thread's end of a synchronous port: answers what a blocked thread asks for. It makes a thread's hypercalls through
// the vCPU's client and is the one place that turns "unknown" into "ask again". What else a thread may ask for is the
// process's own list of services.
import { setTimeout as sleep } from 'node:timers/promises';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import type { Call } from '#model/hypercall/calls';
import type { Answers } from './answer-codec.ts';
import { type HypercallClient, UnknownOutcome } from './hypercall-client.ts';
import { CALLS_MAX, TransportError } from './messages.ts';
import {
  SYNC_WORDS,
  type SyncAnswer,
  type SyncPortEnd,
  type SyncQuestion,
  type SyncRequest,
  syncWord,
} from './sync-port-thread.ts';

const RETRY_MS = 50;

/** What a thread may ask for beside hypercalls, by name. */
export type SyncServices = Readonly<Record<string, (args: unknown) => Promise<unknown>>>;

export interface SyncPortServer {
  /** For the thread's workerData. */
  readonly end: SyncPortEnd;
  /** For the transfer list of its Worker. */
  readonly transfer: MessagePort[];
  /** Wakes the thread if it sleeps between requests. */
  ring(): void;
  close(): void;
}

/**
 * Sends an envelope and does not rest before its outcome is known: an unknown one is asked for again under its own sequence
 * number. `isOver` ends that: the hypervisor is gone, nobody will ever answer.
 */
export async function sendForSure(
  client: HypercallClient,
  calls: readonly Call[],
  isOver: () => boolean,
): Promise<Answers> {
  if (calls.length > CALLS_MAX) {
    const head = await sendForSure(client, calls.slice(0, CALLS_MAX), isOver);
    return [...head, ...(await sendForSure(client, calls.slice(CALLS_MAX), isOver))];
  }
  let ask = (): Promise<Answers> => client.send(calls);
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof UnknownOutcome) || isOver()) throw error;
      const { seq } = error;
      ask = () => client.retry(seq);
      await sleep(RETRY_MS);
    }
  }
}

/** Answers the requests of one thread, one at a time as they come. */
export function serveSyncPort(
  calls: (calls: readonly Call[]) => Promise<Answers>,
  services: SyncServices = {},
): SyncPortServer {
  const { port1: ours, port2: theirs } = new MessageChannel();
  const buffer = new SharedArrayBuffer(SYNC_WORDS * 4);
  const words = new Int32Array(buffer);
  const bump = (word: number): void => {
    Atomics.add(words, word, 1);
    Atomics.notify(words, word);
  };
  const fulfil = async (request: SyncRequest): Promise<unknown> => {
    if ('calls' in request) return calls(request.calls);
    const service = Object.hasOwn(services, request.ask) ? services[request.ask] : undefined;
    if (!service) throw new TypeError(`this process offers no '${request.ask}' to its threads`);
    return service(request.args);
  };
  ours.on('message', (question: SyncQuestion) => {
    const reply = (answer: SyncAnswer): void => {
      ours.postMessage(answer);
      bump(syncWord.answers);
    };
    const { id } = question;
    fulfil(question.request).then(
      (value) => reply({ id, ok: true, value }),
      (error: unknown) => reply({ id, ok: false, ...described(error) }),
    );
  });
  return {
    end: { port: theirs, words: buffer },
    transfer: [theirs],
    ring: () => bump(syncWord.doorbell),
    close: () => ours.close(),
  };
}

function described(error: unknown): { code: string; message: string } {
  if (error instanceof TransportError) return { code: error.code, message: error.message };
  if (error instanceof Error) return { code: error.name, message: error.message };
  return { code: 'Error', message: String(error) };
}
