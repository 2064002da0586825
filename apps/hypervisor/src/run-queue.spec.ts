import { describe, expect, it } from 'vitest';
import type { Answer, Call } from '#model/hypercall/calls';
import type { WorkEnd, WorkItem, WorkResult } from './pcpu/work.ts';
import { DomainGone, RunQueue, type VcpuId } from './run-queue.ts';

/** A pCPU that keeps what it was sent until the test hands it back. */
class TestPcpu {
  readonly batches: WorkItem[][] = [];
  send(items: readonly WorkItem[]): void {
    this.batches.push([...items]);
  }
  take(): WorkItem[] {
    return this.batches.shift() ?? [];
  }
}

function setUp(pcpus: number) {
  const ports = Array.from({ length: pcpus }, () => new TestPcpu());
  const gates = new Map<number, 'run' | 'hold' | 'gone'>();
  const load = { waiting: 0, idle: 0 };
  const news = { gpu: 0 };
  const ran = new Map<string, number>();
  let flush: (() => void) | null = null;
  const queue = new RunQueue({
    ports,
    gpuNews: () => news.gpu,
    lendEvents: () => 0,
    gate: ({ domid }) => gates.get(domid) ?? 'run',
    later: (work) => {
      flush = work;
    },
    publishLoad: (waiting, idle) => Object.assign(load, { waiting, idle }),
    account: ({ domid, vcpu }, us) => {
      const key = `${domid}.${vcpu}`;
      ran.set(key, (ran.get(key) ?? 0) + us);
    },
  });
  /** End of a turn of the event loop. */
  const turn = (): void => {
    const work = flush;
    flush = null;
    work?.();
  };
  return { ports, port: (i: number) => ports[i] as TestPcpu, gates, load, news, ran, queue, turn };
}

const vcpu = (domid: number, index = 0): VcpuId => ({ domid, incarnation: 1, vcpu: index });
const touch = (start: number): Call => ({ op: 'touch', frames: { start, count: 1 } });
const result = (item: WorkItem, answers: readonly Answer[], end: WorkEnd): WorkResult => ({
  id: item.id,
  answers,
  us: 10,
  ...end,
});
const finish = (item: WorkItem): WorkResult =>
  result(
    item,
    item.calls.map(() => ({ rc: 0 })),
    { end: 'done' },
  );

describe('the run queue', () => {
  it('accounts to each vCPU what pCPUs ran for it, slice by slice', () => {
    const { port, queue, turn, ran } = setUp(1);
    void queue.submit(vcpu(1), [touch(1)]);
    void queue.submit(vcpu(2, 3), [touch(2)]);
    turn();
    const [first, second] = port(0).take();
    if (!first || !second) return expect.unreachable();
    queue.finished(0, [result(first, [], { end: 'continue', state: null }), finish(second)]);
    turn();
    queue.finished(0, port(0).take().map(finish));
    expect(Object.fromEntries(ran)).toEqual({ '1.0': 20, '2.3': 10 });
  });

  it('hands everything that became runnable in one turn out as one message per pCPU', () => {
    const { port, queue, turn } = setUp(2);
    for (let domid = 1; domid <= 4; domid++) void queue.submit(vcpu(domid), [touch(domid)]);
    expect(port(0).batches).toHaveLength(0);
    turn();
    expect(port(0).batches.map((batch) => batch.map((item) => item.domid))).toEqual([[1, 2]]);
    expect(port(1).batches.map((batch) => batch.map((item) => item.domid))).toEqual([[3, 4]]);
  });

  it('answers a multicall with the answers of all its slices, in order, and sends only the calls that are left', async () => {
    const { port, queue, turn } = setUp(1);
    const answered = queue.submit(vcpu(1), [touch(1), touch(2), touch(3)]);
    turn();
    const [first] = port(0).take() as [WorkItem];
    queue.finished(0, [result(first, [{ rc: 11 }, { rc: 12 }], { end: 'continue', state: { at: 5 } })]);
    turn();
    const [second] = port(0).take() as [WorkItem];
    expect(second.calls).toEqual([touch(3)]);
    expect(second.state).toEqual({ at: 5 });
    queue.finished(0, [result(second, [{ rc: 13 }], { end: 'done' })]);
    expect(await answered).toEqual([{ rc: 11 }, { rc: 12 }, { rc: 13 }]);
    expect(queue.outstanding).toBe(0);
  });

  it('puts a vCPU that yields behind those that wait', () => {
    const { port, queue, turn, load } = setUp(1);
    void queue.submit(vcpu(1), [touch(1)]);
    turn();
    const [first] = port(0).take() as [WorkItem];
    void queue.submit(vcpu(2), [touch(2)]);
    turn();
    expect(load).toEqual({ waiting: 1, idle: 0 });
    queue.finished(0, [result(first, [], { end: 'continue', state: null })]);
    turn();
    expect(
      port(0)
        .take()
        .map((item) => item.domid),
    ).toEqual([2, 1]);
  });

  it('keeps no pCPU for a vCPU that waits for a device, and runs it when the job is done', () => {
    const { port, queue, turn, load } = setUp(1);
    void queue.submit(vcpu(1), [{ op: 'device_wait', sbdf: 16, job: 3 }]);
    turn();
    const [item] = port(0).take() as [WorkItem];
    queue.finished(0, [result(item, [], { end: 'blocked', on: { on: 'device', sbdf: 16, job: 3 }, state: null })]);
    turn();
    expect(load.idle).toBe(1);
    queue.deviceDone(16, 2);
    turn();
    expect(port(0).batches).toHaveLength(0);
    queue.deviceDone(16, 3);
    turn();
    expect(port(0).take()).toHaveLength(1);
  });

  it('does not lose a completion that is heard before the call that waits for it', () => {
    const { port, queue, turn } = setUp(1);
    void queue.submit(vcpu(1), [{ op: 'device_wait', sbdf: 16, job: 1 }]);
    turn();
    const [item] = port(0).take() as [WorkItem];
    queue.deviceDone(16, 1);
    queue.finished(0, [result(item, [], { end: 'blocked', on: { on: 'device', sbdf: 16, job: 1 }, state: null })]);
    turn();
    expect(port(0).take()).toHaveLength(1);
  });

  it("holds a paused domain's work and runs it after the unpause", () => {
    const { port, gates, queue, turn } = setUp(1);
    gates.set(1, 'hold');
    void queue.submit(vcpu(1), [touch(1)]);
    turn();
    queue.recheck();
    turn();
    expect(port(0).batches).toHaveLength(0);
    gates.set(1, 'run');
    queue.recheck();
    turn();
    expect(port(0).take()).toHaveLength(1);
  });

  it('fails the work of a domain that is gone, wherever it waits', async () => {
    const { port, gates, queue, turn } = setUp(1);
    const running = queue.submit(vcpu(1, 0), [touch(1)]);
    turn();
    const waiting = queue.submit(vcpu(1, 1), [touch(1)]);
    turn();
    gates.set(1, 'gone');
    queue.recheck();
    await expect(waiting).rejects.toThrow(DomainGone);
    const [item] = port(0).take() as [WorkItem];
    queue.finished(0, [result(item, [], { end: 'gone' })]);
    await expect(running).rejects.toThrow(DomainGone);
    expect(queue.outstanding).toBe(0);
  });

  it('serves every vCPU when there are more of them than pCPUs, each as often as the others', () => {
    const { ports, queue, turn } = setUp(2);
    const served = new Map<number, number>();
    const again = (domid: number): void => {
      void queue.submit(vcpu(domid), [touch(domid)]).then(() => {});
    };
    for (let domid = 1; domid <= 7; domid++) again(domid);
    for (let round = 0; round < 700; round++) {
      turn();
      for (const [cpu, pcpu] of ports.entries()) {
        const items = pcpu.take();
        queue.finished(cpu, items.map(finish));
        for (const { domid } of items) {
          served.set(domid, (served.get(domid) ?? 0) + 1);
          again(domid);
        }
      }
    }
    const counts = [...served.values()];
    expect(counts).toHaveLength(7);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(8);
  });

  it('lets a call that waits for a shared GPU go on at its next news, however they came', () => {
    const { port, queue, turn, news } = setUp(1);
    void queue.submit(vcpu(1), [{ op: 'gpu_job_wait', device: 16, stop: false }]);
    turn();
    const wait = (): void => {
      const items = port(0).take();
      expect(items).toHaveLength(1);
      const end = { end: 'blocked', on: { on: 'gpu', gpu: 0, seen: news.gpu }, state: null } as const;
      queue.finished(
        0,
        items.map((item) => result(item, [], end)),
      );
    };
    wait();
    turn();
    expect(port(0).batches).toHaveLength(0);
    // A DMA thread says that a job has ended.
    news.gpu++;
    queue.retryNews();
    turn();
    wait();
    // Another call's end brings the news.
    void queue.submit(vcpu(2), [touch(1)]);
    turn();
    news.gpu++;
    queue.finished(0, port(0).take().map(finish));
    turn();
    expect(
      port(0)
        .take()
        .map(({ domid }) => domid),
    ).toEqual([1]);
  });

  it('looks again at once when the news came before the wait was heard of', () => {
    const { port, queue, turn, news } = setUp(1);
    void queue.submit(vcpu(1), [{ op: 'gpu_serve', device: 16, wait: true }]);
    turn();
    const [item] = port(0).take();
    if (!item) return expect.unreachable();
    const seen = news.gpu;
    news.gpu++;
    queue.retryNews();
    queue.finished(0, [result(item, [], { end: 'blocked', on: { on: 'gpu', gpu: 0, seen }, state: null })]);
    turn();
    expect(port(0).take()).toHaveLength(1);
  });
});
