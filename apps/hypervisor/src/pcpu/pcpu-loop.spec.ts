import { describe, expect, it } from 'vitest';
import { bootHost } from '#model/boot/boot-host';
import { createHost, Host, mainCpu } from '#model/host';
import type { Answer, Call } from '#model/hypercall/calls';
import { recorder, smallConfig } from '../../../../libs/model/test-support/p2m-fixture.ts';
import { SharedWords } from '../shared-words.ts';
import { ReportBuffer } from '../thread-setup.ts';
import { PcpuLoop } from './pcpu-loop.ts';
import { type FromPcpu, packItems, type ToPcpu, unpackResults, type WorkItem, type WorkResult } from './work.ts';

const MIB_FRAMES = 256;

/** A booted host, and pCPU 0 of it in this thread. */
function setUp() {
  const frames = 256 * MIB_FRAMES;
  const config = smallConfig({
    frames,
    heapRanges: [{ start: 0x100, end: frames }],
    memoryMap: [{ addr: 0, size: frames * 4096, type: 1 }],
    tablePages: 20_000,
  });
  const shared = createHost(config);
  bootHost(new Host(shared, mainCpu(config), recorder()), { memoryPages: 64 * MIB_FRAMES, vcpus: 2 });
  const words = new SharedWords(SharedWords.create(config.pcpus + config.dmaThreads));
  const inbox: ToPcpu[] = [];
  const posted: FromPcpu[] = [];
  const host = new Host(shared, 0, recorder());
  const port = { receive: () => inbox.shift() ?? null, post: (message: FromPcpu) => posted.push(message) };
  const loop = new PcpuLoop(host, words, port, new ReportBuffer(words), false);
  const results = (): WorkResult[] => posted.flatMap((message) => unpackResults(message.results ?? '[]'));
  let id = 0;
  const item = (calls: readonly Call[], vcpu = 0): WorkItem => ({
    id: ++id,
    domid: 0,
    incarnation: host.dom0.r.incarnation,
    vcpu,
    calls,
    state: null,
  });
  return { host, words, loop, results, item, give: (...items: WorkItem[]) => inbox.push(packItems(items)) };
}

const touch = (start: number, count: number): Call => ({ op: 'touch', frames: { start, count } });
const rcs = (answers: readonly Answer[] = []): number[] => answers.map(({ rc }) => rc);

describe('a pCPU', () => {
  it('runs the calls of an item in order and hands all answers back at once', () => {
    const { loop, give, results, item } = setUp();
    give(item([{ op: 'physinfo' }, touch(0x400, 4), { op: 'claim_pages', domid: 0, pages: -1 }]));
    while (loop.round());
    expect(results()).toMatchObject([{ id: 1, end: 'done' }]);
    expect(rcs(results()[0]?.answers)).toEqual([0, 0, -22]);
  });

  it('finishes a long call by itself when nobody else wants the pCPU, however often it is preempted', () => {
    const { loop, give, results, item, host } = setUp();
    give(item([{ op: 'decrease_reservation', domid: 0, order: 0, extents: { start: 0x400, count: 8192 } }]));
    while (loop.round());
    expect(results()).toMatchObject([{ end: 'done', answers: [{ rc: 8192 }] }]);
    expect(host.dom0.r.totPages).toBe(64 * MIB_FRAMES - 8192);
  });

  it('gives a long call back unfinished when vCPUs wait for a pCPU, and it goes on from there elsewhere', () => {
    const { loop, words, give, results, item, host } = setUp();
    words.publishLoad(1, 0);
    const calls: Call[] = [{ op: 'decrease_reservation', domid: 0, order: 0, extents: { start: 0x400, count: 8192 } }];
    give(item(calls));
    let slices = 0;
    for (let last = 'continue'; last === 'continue' && slices < 10_000; slices++) {
      while (loop.round());
      const result = results().at(-1);
      last = result?.end ?? 'none';
      if (result?.end === 'continue') give({ ...item(calls), state: result.state });
    }
    expect(slices).toBeGreaterThan(1);
    expect(results().at(-1)).toMatchObject({ end: 'done', answers: [{ rc: 8192 }] });
    expect(host.dom0.r.totPages).toBe(64 * MIB_FRAMES - 8192);
  });

  it('yields between the calls of a multicall as soon as something else arrives', () => {
    const { loop, words, give, results, item } = setUp();
    give(item([touch(0x400, 1), touch(0x401, 1)]), item([touch(0x402, 1)], 1));
    const before = words.wantsPcpu(0);
    words.ring(0, true);
    expect([before, words.wantsPcpu(0)]).toEqual([false, true]);
    while (loop.round());
    expect(results().map(({ end }) => end)).toEqual(['done', 'done']);
  });

  it('does not run a vCPU of a paused domain, nor one of an incarnation that is gone', () => {
    const { loop, give, results, item, host } = setUp();
    host.dom0.r.pauseCount = 1;
    give(item([touch(0x400, 1)]), { ...item([touch(0x400, 1)]), incarnation: 99 });
    while (loop.round());
    expect(results().map(({ end }) => end)).toEqual(['held', 'gone']);
  });

  it('gives queued items back when other pCPUs have nothing to do', () => {
    const { loop, words, give, results, item } = setUp();
    words.publishLoad(0, 1);
    give(item([touch(0x400, 1)]), item([touch(0x401, 1)]), item([touch(0x402, 1)]));
    while (loop.round());
    const ends = new Map(results().map(({ id, end }) => [id, end]));
    expect(ends).toEqual(
      new Map([
        [1, 'done'],
        [2, 'done'],
        [3, 'continue'],
      ]),
    );
  });
});
