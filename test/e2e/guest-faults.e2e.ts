// A fault plan's entries for guests, from the host's configuration to the vCPU threads of real guest processes.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { errno } from '#model/hypercall/errno';
import type { PlannedFault } from '#model/shared-memory/fault-plan';
import type { GuestNews } from '#wire/guest-messages';
import { smallConfig } from '../../libs/model/test-support/p2m-fixture.ts';
import { WholeHost } from '../support/host-processes.ts';

const FRAMES = 0x40000; // 1 GiB
const config = {
  ...smallConfig({ pcpus: 2, frames: FRAMES, heapRanges: [{ start: 0x100, end: FRAMES }] }),
  memoryMap: [{ addr: 0, size: FRAMES * 4096, type: 1 as const }],
  tablePages: 40_000,
};
const STALL_MS = 1500;
const on = { process: 'guest' } as const;
// Domains are numbered in the order of their creation; a step's `where` is the domain.
const faultPlan: readonly PlannedFault[] = [
  { at: { kind: 'hypercall', where: 1, nth: 1 }, on, do: { errno: errno.ENOMEM } },
  { at: { kind: 'guestAccess', where: 2, nth: 1 }, on, do: { stallMs: STALL_MS } },
];

describe('faults planned for guests', () => {
  let host: WholeHost;
  beforeAll(async () => {
    host = await WholeHost.start({ config, dom0: { memoryMb: 256, vcpus: 2 }, faultPlan });
  });
  afterAll(() => host?.stop());

  const event = (domid: number, name: string) => (n: GuestNews) =>
    n.domid === domid && n.kind === 'event' && n.name === name;

  it('an errno is what the guest’s kernel gets for its hypercall, and nothing else on the host notices', async () => {
    await host.create('name="box"\ntype="pvh"\nkernel="vmlinuz"\nmemory=64\non_crash="preserve"\n');
    await host.hears('it panics', event(1, 'panic'));
    expect(host.news.find(event(1, 'panic'))).toMatchObject({ data: { text: 'no memory map: ENOMEM' } });
    expect(await host.ok('dmesg')).toContain('(XEN) (d1) Kernel panic - not syncing: no memory map: ENOMEM');
    expect(await host.violations()).toEqual([]);
    await host.ok('destroy', '1');
  });

  it('a stall makes the vCPU late by its time', async () => {
    await host.create('name="slow"\ntype="hvm"\nmemory=128\nvcpus=2\n', { bootTouchMb: 8 });
    await host.hears('it runs', event(2, 'running'));
    const at = (name: string): number => host.news.find(event(2, name))?.tsUs ?? Number.NaN;
    expect((at('bootDone') - at('e820')) / 1000).toBeGreaterThanOrEqual(STALL_MS);
  });
});
