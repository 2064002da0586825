import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import type { Call } from '#model/hypercall/calls';
import { UnknownOutcome } from './hypercall-client.ts';
import { TransportError } from './messages.ts';
import { type SyncPortServer, type SyncServices, sendForSure, serveSyncPort } from './sync-port.ts';

const touch = (start: number): Call => ({ op: 'touch', frames: { start, count: 1 } });

/** A thread that makes the given requests one after the other and posts what each became. */
const SCRIPT = `
const { parentPort, workerData } = await import('node:worker_threads');
const { SyncPort, PortHypercalls } = await import(workerData.module);
const port = new SyncPort(workerData.end);
const hypercalls = new PortHypercalls(port);
for (const request of workerData.requests) {
  try {
    const value = request.sleep !== undefined
      ? (port.sleep(port.doorbell(), request.sleep), 'woken')
      : request.calls ? hypercalls.multicall(request.calls) : port.request(request);
    parentPort.postMessage({ value });
  } catch (error) {
    parentPort.postMessage({ code: error.code, message: error.message });
  }
}
`;

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const thing of open.splice(0).reverse()) await thing.close();
});

function thread(
  requests: readonly unknown[],
  calls: Parameters<typeof serveSyncPort>[0],
  services?: SyncServices,
): { server: SyncPortServer; outcomes: Promise<unknown[]> } {
  const server = serveSyncPort(calls, services);
  const module = new URL('./sync-port-thread.ts', import.meta.url).href;
  const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(SCRIPT)}`), {
    workerData: { module, end: server.end, requests },
    transferList: server.transfer,
  });
  open.push({ close: () => worker.terminate() }, server);
  const outcomes = new Promise<unknown[]>((resolve, reject) => {
    const got: unknown[] = [];
    worker.on('message', (outcome) => {
      got.push(outcome);
      if (got.length === requests.length) resolve(got);
    });
    worker.on('error', reject);
  });
  return { server, outcomes };
}

describe('a synchronous port', () => {
  it('gives a blocked thread its answers in order, through a promise of the main thread', async () => {
    const { outcomes } = thread(
      [{ calls: [touch(1), touch(2)] }, { calls: [touch(3)] }, { calls: [] }],
      async (calls) => {
        await new Promise(setImmediate);
        return calls.map((call) => ({ rc: call.op === 'touch' && 'start' in call.frames ? call.frames.start : -1 }));
      },
    );
    expect(await outcomes).toEqual([{ value: [{ rc: 1 }, { rc: 2 }] }, { value: [{ rc: 3 }] }, { value: [] }]);
  });

  it('throws in the thread what failed in the main thread, with the code of the transport', async () => {
    const { outcomes } = thread([{ calls: [touch(1)] }, { ask: 'nothing', args: 1 }], () =>
      Promise.reject(new TransportError('STALE_EPOCH', 'another epoch')),
    );
    expect(await outcomes).toEqual([
      { code: 'STALE_EPOCH', message: 'STALE_EPOCH: another epoch' },
      { code: 'TypeError', message: "this process offers no 'nothing' to its threads" },
    ]);
  });

  it('offers other services by name, and none that an object inherits', async () => {
    const { outcomes } = thread(
      [
        { ask: 'double', args: 21 },
        { ask: 'toString', args: null },
      ],
      () => Promise.resolve([]),
      { double: (n) => Promise.resolve(Number(n) * 2) },
    );
    expect(await outcomes).toEqual([
      { value: 42 },
      { code: 'TypeError', message: "this process offers no 'toString' to its threads" },
    ]);
  });

  it('wakes a thread that sleeps between requests by its doorbell', async () => {
    let rung: (() => void) | undefined;
    const { server, outcomes } = thread([{ calls: [touch(1)] }, { sleep: 60_000 }], (calls) => {
      const timer = setInterval(() => rung?.(), 5);
      open.push({ close: () => clearInterval(timer) });
      return Promise.resolve(calls.map(() => ({ rc: 0 })));
    });
    rung = () => server.ring();
    expect((await outcomes)[1]).toEqual({ value: 'woken' });
  });
});

describe('sendForSure', () => {
  const client = (send: () => Promise<{ rc: number }[]>, retry: (seq: number) => Promise<{ rc: number }[]>) =>
    ({ send, retry }) as unknown as Parameters<typeof sendForSure>[0]; // the two methods it uses

  it('asks for an unknown outcome again by its own number until it is known', async () => {
    const asked: number[] = [];
    const unknown = (): Promise<never> => Promise.reject(new UnknownOutcome(7, 'e-i-s7', 'no reply'));
    const flaky = client(unknown, (seq) => (asked.push(seq) < 3 ? unknown() : Promise.resolve([{ rc: 5 }])));
    expect(await sendForSure(flaky, [touch(0)], () => false)).toEqual([{ rc: 5 }]);
    expect(asked).toEqual([7, 7, 7]);
  });

  it('stops asking when nobody will ever answer', async () => {
    const unknown = (): Promise<never> => Promise.reject(new UnknownOutcome(7, 'e-i-s7', 'no reply'));
    await expect(sendForSure(client(unknown, unknown), [touch(0)], () => true)).rejects.toThrow(UnknownOutcome);
  });

  it('cuts what does not fit into one envelope, and keeps the order of answers', async () => {
    const sizes: number[] = [];
    const many = Array.from({ length: 5000 }, (_, i) => touch(i));
    const counting = {
      send: (calls: readonly Call[]) => {
        sizes.push(calls.length);
        return Promise.resolve(
          calls.map((call) => ({ rc: call.op === 'touch' && 'start' in call.frames ? call.frames.start : -1 })),
        );
      },
    } as unknown as Parameters<typeof sendForSure>[0]; // the one method it uses
    const answers = await sendForSure(counting, many, () => false);
    expect(sizes).toEqual([4096, 904]);
    expect(answers.map(({ rc }) => rc)).toEqual(many.map((_, i) => i));
  });
});
