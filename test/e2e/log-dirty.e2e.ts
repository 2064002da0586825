import { afterAll, beforeAll, expect, it } from 'vitest';
import { type AnswerOf, type Call, type CallOf, type OpName, shadowOp } from '#model/hypercall/calls';
import type { HypercallClient } from '#wire/hypercall-client';
import { smallConfig } from '../../libs/model/test-support/p2m-fixture.ts';
import { type Guest, HypervisorProcess } from '../support/hypervisor-process.ts';

const FRAMES = 0x20000;
const config = {
  ...smallConfig({ pcpus: 2, frames: FRAMES, heapRanges: [{ start: 0x100, end: FRAMES }] }),
  memoryMap: [{ addr: 0, size: FRAMES * 4096, type: 1 as const }],
  tablePages: 20_000,
};
/** Of the guest: 4 MiB by 2M, which the first writes shatter. */
const PAGES = 1024;

async function ask<N extends OpName>(client: HypercallClient | undefined, call: CallOf<N>): Promise<AnswerOf<N>> {
  const [answer] = (await client?.send([call as Call])) ?? [];
  return answer as AnswerOf<N>; // one call, one answer of its kind
}

const gfnsOf = (bitmap: readonly number[] = []): number[] =>
  bitmap.flatMap((word, i) =>
    Array.from({ length: 32 }, (_, bit) => i * 32 + bit).filter((_, bit) => Math.floor(word / 2 ** bit) % 2 === 1),
  );

let hypervisor: HypervisorProcess;
let dom0: Guest;

beforeAll(async () => {
  hypervisor = await HypervisorProcess.start({ config, dom0: { memoryMb: 128, vcpus: 2 }, record: true });
  dom0 = await hypervisor.guest(0);
});
afterAll(() => hypervisor?.stop());

it('pre-copy over the queues: a vCPU writes while dom0 cleans again and again, and no write is missing in the end', async () => {
  const [client] = dom0.clients;
  const spec = { name: 'guest', hvm: true, hap: true, iommu: false, noSharept: false, vcpus: 2, deviceModel: true };
  const { domid = -1 } = await ask<'createdomain'>(client, { op: 'createdomain', domid: 0, ...spec });
  await client?.send([
    { op: 'max_mem', domid, maxKb: PAGES * 4 },
    { op: 'set_paging_mempool_size', domid, bytes: 4 * 2 ** 20 },
    { op: 'populate_physmap', domid, order: 9, memFlags: 0, extents: { start: 0, count: PAGES / 512 } },
    { op: 'unpausedomain', domid },
  ]);
  const guest = await hypervisor.guest(domid);
  const shadow = { op: 'shadow_op', domid, mode: 0, pages: PAGES, copy: true, mb: 0 } as const;
  expect((await ask<'shadow_op'>(client, { ...shadow, sop: shadowOp.enableLogdirty })).rc).toBe(0);

  // The receiving side: what each page held when it was last sent.
  const sent = new Map<number, number>();
  const copy = async (bitmap: readonly number[] | undefined): Promise<number> => {
    const gfns = gfnsOf(bitmap);
    // The other vCPU reads them. What is written after the clean and before this is dirty again.
    const { tags = [] } = await ask<'load'>(guest.clients[1], { op: 'load', frames: { frames: gfns } });
    for (const [i, g] of gfns.entries()) sent.set(g, tags[i] ?? -1);
    return gfns.length;
  };

  let writing = true;
  const written = new Map<number, number>();
  const write = async (): Promise<void> => {
    for (let round = 1; writing || round < 40; round++) {
      const frames = Array.from({ length: 48 }, (_, i) => (round * 37 + i * 53) % PAGES);
      const { rc, faulted } = await ask<'store'>(guest.clients[0], { op: 'store', frames: { frames }, tag: round });
      expect([rc, faulted]).toEqual([0, 0]);
      for (const g of frames) written.set(g, round);
    }
  };
  const writer = write();
  let rounds = 0;
  for (; rounds < 30; rounds++) {
    const { rc, bitmap } = await ask<'shadow_op'>(client, { ...shadow, sop: shadowOp.clean });
    expect(rc).toBe(0);
    await copy(bitmap);
  }
  writing = false;
  await writer;
  // Stop and copy.
  const last = await ask<'shadow_op'>(client, { ...shadow, sop: shadowOp.clean });
  await copy(last.bitmap);
  const missing = [...written].filter(([g, tag]) => sent.get(g) !== tag).map(([g]) => g);
  expect(written.size).toBeGreaterThan(500);
  expect(missing).toEqual([]);
  expect((await ask<'shadow_op'>(client, { ...shadow, sop: shadowOp.off })).rc).toBe(0);
  const checked = await hypervisor.ask({ op: 'check-invariants' });
  expect(checked).toMatchObject({ violations: [] });
  await guest.close();
  expect((await ask<'destroydomain'>(client, { op: 'destroydomain', domid })).rc).toBe(0);
});
