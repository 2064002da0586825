// The toolstack and guest agents with a real hypervisor and Redis: what an operator types, and what becomes of guests whose
// processes die.
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { sbdf } from '#model/frames/addresses';
import { type DomainInfo, domInfoFlag, shutdownReason } from '#model/hypercall/calls';
import type { GuestNews } from '#wire/guest-messages';
import { smallConfig } from '../../libs/model/test-support/p2m-fixture.ts';
import { WholeHost } from '../support/host-processes.ts';

const FRAMES = 0x40000; // 1 GiB
const config = {
  ...smallConfig({ pcpus: 2, frames: FRAMES, heapRanges: [{ start: 0x100, end: FRAMES }] }),
  memoryMap: [{ addr: 0, size: FRAMES * 4096, type: 1 as const }],
  tablePages: 40_000,
};
const dom0 = { memoryMb: 256, vcpus: 2 };
const MIB_PAGES = 256;

const hvm = (name: string, more = ''): string => `name="${name}"\ntype="hvm"\nmemory=128\nvcpus=2\n${more}`;
const pvh = (name: string): string => `name="${name}"\ntype="pvh"\nkernel="vmlinuz"\nmemory=64\n`;

const isRunning =
  (domid: number) =>
  (n: GuestNews): boolean =>
    n.domid === domid && n.kind === 'event' && n.name === 'running';

/** A created guest whose kernel is up. */
async function start(host: WholeHost, text: string): Promise<DomainInfo> {
  const reply = await host.create(text);
  expect(reply).toMatchObject({ exitCode: 0, stderr: '' });
  const name = /name="(.*?)"/.exec(text)?.[1] ?? '';
  const info = await host.domain(name);
  if (!info) throw new Error(`${name} is not in the list`);
  await host.hears(`${name} is up`, isRunning(info.domid));
  return info;
}

const pidOf = async (host: WholeHost, name: string): Promise<number> => JSON.parse(await host.ok('where', name)).pid;

describe('xl on a host', () => {
  let host: WholeHost;
  let freeAtStart = 0;

  beforeAll(async () => {
    host = await WholeHost.start({ config, dom0 });
    freeAtStart = await host.freePages();
  });
  afterAll(() => host?.stop());
  afterEach(async () => {
    for (const { domid } of await host.domains()) if (domid !== 0) await host.ok('destroy', String(domid));
    // Nothing half-created, nothing half-destroyed: every page is back, and every table is consistent.
    await host.until('all memory is free again', async () => (await host.freePages()) === freeAtStart);
    expect(await host.violations()).toEqual([]);
  });

  it('creates an HVM guest from an xl.cfg, lists it with its memory, and shows its firmware in dmesg', async () => {
    const { domid, totPages } = await start(host, hvm('web'));
    const list = await host.ok('list');
    expect(list.split('\n')[0]).toMatch(/^Name {40}ID {3}Mem VCPUs\tState\tTime\(s\)$/);
    const mib = Math.floor(((await host.domain('web'))?.totPages ?? 0) / MIB_PAGES);
    expect(list).toMatch(new RegExp(`^web {37} +${domid} +${mib} +2 {5}[-r][-b]---- `, 'm'));
    // 128 MiB with its video memory, less the VGA hole, plus special pages; the guest may have ballooned by now.
    expect(totPages).toBeGreaterThan(118 * MIB_PAGES);
    expect(totPages).toBeLessThanOrEqual(129 * MIB_PAGES);
    expect(await host.ok('dmesg')).toContain(`(XEN) (d${domid}) HVM Loader`);
  });

  it('gives a guest process its own credentials and not the host’s', async () => {
    await start(host, hvm('web'));
    const told = readFileSync(`/proc/${await pidOf(host, 'web')}/environ`, 'utf8');
    expect(told).not.toContain('HOSTLOOM_');
    expect(told).not.toContain(host.hypervisor.server.endpoint.password);
  });

  it('creates a PVH guest, whose kernel asks the hypervisor for its memory map', async () => {
    const { domid } = await start(host, pvh('box'));
    const map = host.news.find((n) => n.domid === domid && n.kind === 'event' && n.name === 'e820');
    // Its own: Linux keeps off the ISA range. libxl's: the ACPI tables and the special pages.
    expect(map).toMatchObject({
      data: {
        entries: [
          { addr: 0, size: 0xa0000, type: 1 },
          { addr: 0xa0000, size: 0x60000, type: 2 },
          { addr: 0x100000, size: 63 * 2 ** 20, type: 1 },
          { addr: 0xfc000000, size: 0x8040, type: 4 },
          { addr: 0xfeff8000, size: 0x8000, type: 2 },
        ],
      },
    });
  });

  it('balloons a guest to the target that mem-set writes', async () => {
    const { domid } = await start(host, hvm('web'));
    expect(await host.xl('mem-set', 'web', '96')).toEqual({ exitCode: 0, stdout: '', stderr: '' });
    const videoKb = 8 * 1024;
    expect(await host.xenstore(domid).read('memory/target')).toBe(String(96 * 1024 - videoKb));
    // The kernel aims at the target less what it never saw of static-max, so its RAM is the video memory smaller than the target;
    // the video memory itself comes on top of that.
    const mib = async (): Promise<number> => ((await host.domain('web'))?.totPages ?? 0) / MIB_PAGES;
    await host.until('the guest is down at 88 MiB', async () => Math.round(await mib()) === 88);
    await host.ok('mem-set', 'web', '120');
    await host.until('and up at 112 MiB again', async () => Math.round(await mib()) === 112);
    expect(await host.xl('mem-set', 'web', '4096')).toMatchObject({
      exitCode: 1,
      stderr: expect.stringMatching(
        /memory_dynamic_max must be .*\ncannot set domid \d+ dynamic max memory to : 4096\n$/,
      ),
    });
    expect(await host.xl('mem-set', 'web', 'lots')).toMatchObject({ stderr: 'invalid memory size: lots\n' });
  });

  it('reboots a guest that was ballooned down into a new domain with that target, in PoD mode', async () => {
    const before = await start(host, hvm('web'));
    await host.ok('mem-set', 'web', '96');
    const rebooted = await host.xl('reboot', 'web');
    expect(rebooted).toEqual({ exitCode: 0, stdout: '', stderr: `Rebooting domain ${before.domid}\n` });
    const after = await host.domain('web');
    expect(after?.domid).toBeGreaterThan(before.domid);
    await host.hears('it is up again', isRunning(after?.domid ?? -1));
    expect(after?.podEntries).toBeGreaterThan(0);
  });

  it('applies on_poweroff and on_reboot when a guest stops by itself', async () => {
    const { domid } = await start(host, hvm('web'));
    const stop = (reason: number): string => JSON.stringify({ do: 'shutdown', reason });
    await host.ok('guest-command', 'web', stop(shutdownReason.reboot));
    const next = await host.until('a new domain', async () => {
      const info = await host.domain('web');
      return info && info.domid !== domid && info;
    });
    await host.hears('it is up again', isRunning(next.domid));
    await host.ok('shutdown', 'web');
    await host.until('it is gone', async () => (await host.domain('web')) === undefined);
  });

  it('keeps a crashed guest to be looked at where on_crash says so', async () => {
    const { domid } = await start(host, hvm('web', 'on_crash="preserve"\n'));
    process.kill(await pidOf(host, 'web'), 'SIGKILL');
    const crashed = await host.until('it is marked', async () => {
      const info = await host.domain('web');
      return info && (info.flags & domInfoFlag.shutdown) !== 0 && info;
    });
    expect(crashed.domid).toBe(domid);
    expect(await host.ok('list')).toMatch(/^web .* [-r][-b][-p]sc- /m);
  });

  it('destroys a guest whose process is killed, within 10 s, as on_crash says', async () => {
    await start(host, hvm('web'));
    process.kill(await pidOf(host, 'web'), 'SIGKILL');
    await host.until('it is gone', async () => (await host.domain('web')) === undefined, 10_000);
  });

  it('moves memory between two guests', async () => {
    const a = await start(host, hvm('a', 'maxmem=160\n'));
    const b = await start(host, hvm('b', 'maxmem=160\n'));
    await host.ok('squeeze-swap', 'a', 'b', '16');
    const target = async (domid: number): Promise<number> => Number(await host.xenstore(domid).read('memory/target'));
    expect((await target(b.domid)) - (await target(a.domid))).toBe(2 * 16 * 1024);
  });

  it('refuses a PoD guest with a device before anything is built, in libxl’s words', async () => {
    const gpu = '0000:00:02.0';
    await host.ok('pci-assignable-add', gpu);
    expect(await host.ok('pci-assignable-list')).toBe(`${gpu} \n`);
    const reply = await host.create(hvm('gpu', `maxmem=256\npci=["${gpu}"]\n`));
    expect(reply.exitCode).toBe(1);
    expect(reply.stderr).toBe(
      'libxl: error: libxl_create.c:1195:libxl__domain_config_setdefault: IOMMU required for device passthrough but not supported together with PoD\n',
    );
    expect(await host.domain('gpu')).toBeUndefined();
    await host.ok('pci-assignable-remove', gpu);
    expect(await host.ok('pci-assignable-list')).toBe('');
  });

  it('gives a guest a device and takes it back', async () => {
    const gpu = '0000:00:02.0';
    await host.ok('pci-assignable-add', gpu);
    const { domid } = await start(host, hvm('gpu', `pci=["${gpu}"]\n`));
    expect(await host.ok('pci-list', 'gpu')).toMatch(/^Vdev Device\n[0-9a-f]{2}\.0 0000:00:02\.0\n$/);
    expect((await host.domain('gpu'))?.devices).toEqual([sbdf(0, 0, 2, 0)]);
    await host.ok('pci-detach', String(domid), gpu);
    expect((await host.domain('gpu'))?.devices).toEqual([]);
    await host.ok('pci-attach', String(domid), gpu);
    await host.ok('destroy', 'gpu');
    await host.ok('pci-assignable-remove', gpu);
  });

  it('names file and line of an xl.cfg that does not parse', async () => {
    const reply = await host.create('name="web"\nmemory=64\nthis is no setting\n');
    expect(reply).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('guest.cfg:3') });
  });

  it('refuses a guest that is larger than the host, an existing name, a domain and a device that do not exist', async () => {
    const large = await host.create(hvm('large').replace('memory=128', 'memory=8192'));
    expect(large).toMatchObject({
      exitCode: 1,
      stderr: expect.stringMatching(/^libxl: error: libxl_dom.c:586:libxl__build_dom: .+/m),
    });
    await start(host, hvm('web'));
    const twice = await host.create(hvm('web'));
    expect(twice.stderr).toBe(
      'libxl: error: libxl_domain.c:81:libxl__domain_rename: Domain with name "web" already exists.\n',
    );
    expect(await host.xl('destroy', 'nobody')).toMatchObject({
      exitCode: 1,
      stderr: 'nobody is an invalid domain identifier (rc=-6)\n',
    });
    expect(await host.xl('destroy', '0')).toMatchObject({ exitCode: 1 });
    const device = await host.create(hvm('gpu', 'pci=["0000:05:00.0"]\n'));
    expect(device).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('PCI device 0000:05:00.0 already assigned to a different guest?'),
    });
  });
});

describe('when processes die', () => {
  let host: WholeHost;
  afterEach(() => host?.stop());

  it('applies on_crash within 10 s when a guest’s agent is killed, and another agent takes the restarted guest', async () => {
    host = await WholeHost.start({ config, dom0 });
    const { domid } = await start(host, hvm('web', 'on_crash="restart"\n'));
    const spare = host.addAgent();
    await spare.up();
    host.agents[0]?.process.kill('SIGKILL');
    const next = await host.until('a new domain', async () => {
      const info = await host.domain('web');
      return info && info.domid !== domid && info;
    });
    await host.hears('it is up again', isRunning(next.domid));
    expect(await host.violations()).toEqual([]);
  });

  it('fails a creation that no agent takes, with that message, and leaves nothing of it', async () => {
    host = await WholeHost.start({ config, dom0, agents: 0, knobs: { agentWaitMs: 300 } });
    const free = await host.freePages();
    const reply = await host.create(hvm('web'));
    expect(reply).toMatchObject({
      exitCode: 1,
      stderr: expect.stringMatching(/no idle guest agent took domain \d+ within 0.3 s/),
    });
    expect((await host.domains()).map(({ domid }) => domid)).toEqual([0]);
    await host.until('all memory is free again', async () => (await host.freePages()) === free);
    expect(await host.violations()).toEqual([]);
  });

  it('ends guests and toolstack, saying so, when the hypervisor is killed', async () => {
    host = await WholeHost.start({ config, dom0 });
    await host.placeDom0Kernel();
    const { domid } = await start(host, hvm('web'));
    host.hypervisor.child.kill('SIGKILL');
    for (const who of [0, domid]) {
      const exit = await host.hears(`domain ${who} ends`, (n) => n.domid === who && n.kind === 'exit', 10_000);
      expect(exit).toMatchObject({ code: 69, why: expect.stringMatching(/the hypervisor of host test is gone/) });
    }
    expect(await host.toolstack.exited).toBe(69);
    expect(host.toolstack.printed).toContain('the hypervisor of host test is gone');
  });
});
