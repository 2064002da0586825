import { afterAll, beforeAll, expect, it } from 'vitest';
import type { AnswerOf, Call, CallOf, OpName } from '#model/hypercall/calls';
import { LEND_check_sequence } from '#model/hypercall/lend-op';
import type { HypercallClient } from '#wire/hypercall-client';
import { smallConfig } from '../../libs/model/test-support/p2m-fixture.ts';
import { type Guest, HypervisorProcess } from '../support/hypervisor-process.ts';

const FRAMES = 0x20000;
const config = {
  ...smallConfig({ pcpus: 2, frames: FRAMES, heapRanges: [{ start: 0x100, end: FRAMES }] }),
  memoryMap: [{ addr: 0, size: FRAMES * 4096, type: 1 as const }],
  tablePages: 20_000,
};
const WINDOW = 0x8000;
const PAGES = 64;
/** Pages of dom0's own RAM. */
const OWN = 0x1000;

let hypervisor: HypervisorProcess;
let dom0: Guest;

async function ask<N extends OpName>(client: HypercallClient | undefined, call: CallOf<N>): Promise<AnswerOf<N>> {
  const [answer] = (await client?.send([call as Call])) ?? [];
  return answer as AnswerOf<N>; // one call, one answer of its kind
}

async function createGuest(): Promise<number> {
  const [client] = dom0.clients;
  const spec = { name: 'guest', hvm: true, hap: true, iommu: false, noSharept: false, vcpus: 2, deviceModel: true };
  const { domid = -1 } = await ask<'createdomain'>(client, { op: 'createdomain', domid: 0, ...spec });
  await client?.send([
    { op: 'max_mem', domid, maxKb: 4096 },
    { op: 'set_paging_mempool_size', domid, bytes: 2 ** 20 },
    { op: 'populate_physmap', domid, order: 0, memFlags: 0, extents: { start: 0, count: 64 } },
    { op: 'unpausedomain', domid },
  ]);
  return domid;
}

beforeAll(async () => {
  hypervisor = await HypervisorProcess.start({ config, dom0: { memoryMb: 128, vcpus: 3 }, record: true });
  dom0 = await hypervisor.guest(0);
});
afterAll(() => hypervisor?.stop());

it('a borrower’s vCPUs wait for lent pages over the queues, the lender is told, revokes under them and lends again; no touch is lost', async () => {
  const [client, waiter, migrator] = dom0.clients;
  const domid = await createGuest();
  const guest = await hypervisor.guest(domid);
  const open = { op: 'lend_open', domid, first: WINDOW, count: PAGES, order: 0, onFailure: 0 } as const;
  expect((await ask<'lend_open'>(client, open)).rc).toBe(0);
  for (let i = 0; i < PAGES; i++) {
    await ask<'store'>(client, { op: 'store', frames: { start: OWN + i, count: 1 }, tag: 100 + i });
  }

  let over = false;
  let told = 0;
  /** The lender's fault path on one vCPU: wait, lend what was asked for, again if it was revoked meanwhile. */
  const resolve = async (): Promise<void> => {
    while (!over) {
      const { faults = [] } = await ask<'lend_faults'>(waiter, { op: 'lend_faults', wait: true });
      told += faults.length;
      for (const { gfn, sequence } of faults) {
        for (let s = sequence; ; ) {
          const gfns = { start: OWN + gfn - WINDOW, count: 1 };
          const lend = { op: 'lend', domid, first: gfn, gfns, flags: LEND_check_sequence, sequence: s } as const;
          const { rc } = await ask<'lend'>(waiter, lend);
          if (rc === 0) break;
          s = (await ask<'lend_sequence'>(waiter, { op: 'lend_sequence', domid, gfn })).sequence ?? 0;
        }
      }
    }
  };
  /** Its memory management on another: takes everything away, over and over. */
  const migrate = async (): Promise<number> => {
    let revoked = 0;
    while (!over) {
      const call = { op: 'revoke', domid, first: WINDOW, count: PAGES, writeProtect: false } as const;
      const answer = await ask<'revoke'>(migrator, call);
      expect(answer.rc).toBe(0);
      revoked += answer.revoked ?? 0;
      // Its work between two migrations: a borrower that never finds its page is not what this shows.
      for (let i = 0; i < 6; i++) await ask<'physinfo'>(migrator, { op: 'physinfo' });
    }
    return revoked;
  };
  const resolving = resolve();
  const migrating = migrate();
  const touch = async (vcpu: number): Promise<void> => {
    for (let i = 0; i < 40; i++) {
      const page = (i * 7 + vcpu * 13) % PAGES;
      const { tags } = await ask<'load'>(guest.clients[vcpu], {
        op: 'load',
        frames: { start: WINDOW + page, count: 1 },
      });
      expect(tags).toEqual([100 + page]);
    }
  };
  await Promise.all([touch(0), touch(1)]);
  over = true;
  // A last touch, so that the lender's waiting call ends.
  const last = ask<'load'>(guest.clients[0], { op: 'load', frames: { start: WINDOW, count: 1 } });
  expect(await migrating).toBeGreaterThan(0);
  await ask<'revoke'>(migrator, { op: 'revoke', domid, first: WINDOW, count: PAGES, writeProtect: false });
  const prod = ask<'touch'>(guest.clients[1], { op: 'touch', frames: { start: WINDOW + 1, count: 1 } });
  await resolving;
  expect(told).toBeGreaterThan(20);
  // Whoever still waits when the domain ends is told so.
  const ended = Promise.allSettled([last, prod]);
  expect((await ask<'destroydomain'>(client, { op: 'destroydomain', domid })).rc).toBe(0);
  await ended;
  await guest.close();
  expect(await hypervisor.ask({ op: 'check-invariants' })).toMatchObject({ violations: [] });
});

it('grants over the queues: an entry written, mapped, used, unmapped and withdrawn', async () => {
  const [client] = dom0.clients;
  const domid = await createGuest();
  const guest = await hypervisor.guest(domid);
  const [front] = guest.clients;
  const table = { op: 'add_to_physmap', domid, space: 1, idx: 0, gpfn: 0x7000, size: 0 } as const;
  expect((await ask<'add_to_physmap'>(front, table)).rc).toBe(0);
  await ask<'store'>(front, { op: 'store', frames: { start: 5, count: 1 }, tag: 55 });
  const entry = { gfn: 0x7000, index: 8, version: 1 };
  const rest = { start: 0, length: 0, transDomid: 0, transRef: 0 };
  await ask<'grant_entry_set'>(front, { op: 'grant_entry_set', ...entry, flags: 1, domid: 0, frame: 5, ...rest });
  const hole = { op: 'decrease_reservation', domid: 0, order: 0, extents: { start: 0x2000, count: 1 } } as const;
  expect((await ask<'decrease_reservation'>(client, hole)).rc).toBe(1);
  const map = { hostAddr: 0x2000 * 4096, flags: 2, ref: 8, domid };
  const { results = [] } = await ask<'gnttab_map_grant_ref'>(client, { op: 'gnttab_map_grant_ref', ops: [map] });
  expect(results).toEqual([{ status: 0, handle: 1, devBusAddr: 0 }]);
  expect((await ask<'load'>(client, { op: 'load', frames: { start: 0x2000, count: 1 } })).tags).toEqual([55]);
  expect((await ask<'grant_entry_end'>(front, { op: 'grant_entry_end', ...entry })).rc).toBeLessThan(0);
  const ops = [{ hostAddr: 0x2000 * 4096, devBusAddr: 0, handle: 1 }];
  expect((await ask<'gnttab_unmap_grant_ref'>(client, { op: 'gnttab_unmap_grant_ref', ops })).statuses).toEqual([0]);
  expect((await ask<'grant_entry_end'>(front, { op: 'grant_entry_end', ...entry })).rc).toBe(0);
  await ask<'populate_physmap'>(client, { ...hole, op: 'populate_physmap', memFlags: 0 });
  await guest.close();
  await ask<'destroydomain'>(client, { op: 'destroydomain', domid });
  expect(await hypervisor.ask({ op: 'check-invariants' })).toMatchObject({ violations: [] });
});
