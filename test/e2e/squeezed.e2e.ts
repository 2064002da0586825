// A host with squeezed: new guests get what the free memory allows, running ones give it up for them and get it back, by the
// ten-second look and without anybody asking.
import { afterEach, expect, it } from 'vitest';
import { smallConfig } from '../../libs/model/test-support/p2m-fixture.ts';
import { WholeHost } from '../support/host-processes.ts';

const FRAMES = 0x40000; // 1 GiB
const KIB_PER_MIB = 1024;
const config = {
  ...smallConfig({ pcpus: 2, frames: FRAMES, heapRanges: [{ start: 0x100, end: FRAMES }] }),
  memoryMap: [{ addr: 0, size: FRAMES * 4096, type: 1 as const }],
  tablePages: 40_000,
};
const pvh = (name: string): string => `name="${name}"\ntype="pvh"\nkernel="vmlinuz"\nmemory=64\nmaxmem=640\n`;

let host: WholeHost;
afterEach(() => host?.stop());

it('shares memory between guests: in equal parts while there are two, and all of it for the one that stays', async () => {
  host = await WholeHost.start({ config, dom0: { memoryMb: 256, vcpus: 2 }, knobs: { squeezed: true } });
  const targetMib = async (name: string): Promise<number> => {
    const domid = (await host.domain(name))?.domid ?? -1;
    return Math.round(Number(await host.xenstore(domid).read('memory/target')) / KIB_PER_MIB);
  };
  const create = async (name: string): Promise<void> => {
    expect(await host.create(pvh(name))).toMatchObject({ exitCode: 0, stderr: '' });
    const domid = (await host.domain(name))?.domid;
    await host.hears(`${name} is up`, (n) => n.domid === domid && n.kind === 'event' && n.name === 'running');
  };
  await create('a');
  expect(await targetMib('a')).toBe(640);
  await create('b');
  expect(await targetMib('a')).toBeLessThan(500);
  await host.until('both have the same', async () => (await targetMib('a')) === (await targetMib('b')), 30_000);
  expect(await targetMib('a')).toBeGreaterThan(250);
  await host.ok('destroy', 'b');
  await host.until('the other has all it may have', async () => (await targetMib('a')) === 640, 30_000);
  expect(await host.violations()).toEqual([]);
});
