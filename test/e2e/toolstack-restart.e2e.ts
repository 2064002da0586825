// A toolstack that is killed and started anew: the domains it built live on, and are known again. By itself, under `hostloom up`,
// and in a scenario.
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { smallConfig } from '../../libs/model/test-support/p2m-fixture.ts';
import { WholeHost } from '../support/host-processes.ts';
import { descendants, Sandbox, until } from '../support/hostloom.ts';

const TEST_MS = 120_000;
const FRAMES = 0x40000; // 1 GiB
const GPU = '0000:00:02.0';
const config = {
  ...smallConfig({ pcpus: 2, frames: FRAMES, heapRanges: [{ start: 0x100, end: FRAMES }] }),
  memoryMap: [{ addr: 0, size: FRAMES * 4096, type: 1 as const }],
  tablePages: 40_000,
};
const dom0 = { memoryMb: 256, vcpus: 2 };
const hvm = (name: string, more = ''): string => `name="${name}"\ntype="hvm"\nmemory=128\nvcpus=2\n${more}`;

describe('a toolstack that is killed', () => {
  let host: WholeHost;
  afterEach(() => host?.stop());

  const pidOf = async (name: string): Promise<number> => JSON.parse(await host.ok('where', name)).pid;
  const create = async (text: string): Promise<void> => {
    expect(await host.create(text)).toMatchObject({ exitCode: 0, stderr: '' });
  };

  it('leaves its guests running, and the next one lists, sizes, restarts and ends them', async () => {
    host = await WholeHost.start({ config, dom0 });
    const free = await host.freePages();
    await host.ok('pci-assignable-add', GPU);
    await create(hvm('gpu', `pci=["${GPU}"]\non_crash="destroy"\n`));
    await create(hvm('web', 'maxmem=160\non_crash="restart"\n'));
    const before = await host.domains();
    await host.restartToolstack();
    expect((await host.domains()).map(({ domid, name }) => ({ domid, name }))).toEqual(
      before.map(({ domid, name }) => ({ domid, name })),
    );
    expect(await host.ok('pci-list', 'gpu')).toMatch(/^Vdev Device\n[0-9a-f]{2}\.0 0000:00:02\.0\n$/);
    expect(await host.ok('pci-assignable-list')).toBe(`${GPU} \n`);
    await host.ok('mem-set', 'web', '112');
    await host.ok('pci-detach', 'gpu', GPU);
    await host.ok('pci-attach', 'gpu', GPU);
    // What happened to it since is remembered, too.
    await host.restartToolstack();
    const { domid } = (await host.domain('web')) ?? { domid: -1 };
    expect(await host.xl('reboot', 'web')).toMatchObject({ exitCode: 0 });
    expect((await host.domain('web'))?.domid).toBeGreaterThan(domid);
    for (const name of ['gpu', 'web']) await host.ok('destroy', name);
    await host.ok('pci-assignable-remove', GPU);
    await host.until('all memory is free again', async () => (await host.freePages()) === free);
    expect(await host.violations()).toEqual([]);
  });

  it('does not save a guest from on_crash, whether its process dies after the restart or before', async () => {
    host = await WholeHost.start({ config, dom0 });
    await create(hvm('later', 'on_crash="destroy"\n'));
    await create(hvm('meanwhile', 'on_crash="preserve"\n'));
    const meanwhile = await pidOf('meanwhile');
    const later = await pidOf('later');
    host.toolstack.process.kill('SIGKILL');
    process.kill(meanwhile, 'SIGKILL');
    await host.restartToolstack();
    await host.until('it has crashed', async () => /^meanwhile .* [-r][-b][-p]sc- /m.test(await host.ok('list')));
    process.kill(later, 'SIGKILL');
    await host.until('it is gone', async () => (await host.domain('later')) === undefined);
    expect(await host.violations()).toEqual([]);
  });

  it('leaves no half-built guest: what it had not finished is undone', async () => {
    // Nobody takes the guest, so that its creation waits.
    host = await WholeHost.start({ config, dom0, agents: 0, knobs: { agentWaitMs: 60_000 } });
    const free = await host.freePages();
    const creation = host.create(hvm('half')).catch((error: Error) => error.message);
    await host.until('it is being built', async () => (await host.domain('half')) !== undefined);
    await host.restartToolstack();
    expect((await host.domains()).map(({ domid }) => domid)).toEqual([0]);
    await host.until('all memory is free again', async () => (await host.freePages()) === free);
    // The creation's end is not known to who asked; it does not wait for ever.
    expect(await creation).toMatch(/stalled/);
    expect(await host.violations()).toEqual([]);
  });
});

describe('hostloom', () => {
  let sandbox: Sandbox;
  beforeEach(() => {
    sandbox = new Sandbox();
  });
  afterEach(() => sandbox.dispose());

  it(
    'starts a dead toolstack anew under `up`, saying so, and after a scenario has killed it',
    async () => {
      const up = sandbox.start('up', 'hosts/seed-2014-haswell.yaml');
      await until('the host is up', () => up.said().includes('is up'));
      expect((await sandbox.run('xl', 'create', 'scenarios/guests/win7-office.cfg')).code).toBe(0);
      const toolstack = descendants(up.child.pid ?? -1).find(({ command }) => command.includes('apps/toolstack/'));
      process.kill(toolstack?.pid ?? 0, 'SIGKILL');
      await until('it says so', () => up.said().includes('the toolstack was ended by SIGKILL; it was started anew'));
      expect((await sandbox.run('xl', 'list')).stdout).toMatch(/^win7-office /m);
      expect((await sandbox.run('xl', 'reboot', 'win7-office')).code).toBe(0);
      up.child.kill('SIGINT');
      expect((await up.ended).code).toBe(0);

      const scenario = join(sandbox.path, 'killed.yaml');
      writeFileSync(
        scenario,
        `question: Does a guest outlive its toolstack?
host: ${resolve('hosts/seed-2014-haswell.yaml')}
guests:
  - name: g
    config: "name = 'g'\\ntype = 'hvm'\\nmemory = 64\\nmaxmem = 96\\nvcpus = 1\\n"
timeline:
  - { do: create, guest: g }
  - { do: kill, what: toolstack }
  - { do: mem-set, guest: g, mb: 80 }
  - { do: reboot, guest: g }
expect:
  - { guest: g, is: running }
  - never: '*'
`,
      );
      const { code, stderr, result } = await sandbox.play(scenario);
      expect(code, `${stderr}${JSON.stringify(result?.twins[0]?.assertions)}`).toBe(0);
      expect(sandbox.leftovers()).toEqual([]);
    },
    TEST_MS,
  );

  it(
    'keeps the host of a run up with --keep until Ctrl-C, and the run counts',
    async () => {
      const runs = join(sandbox.path, 'runs');
      const run = sandbox.start('run', 'scenarios/rmrr-hole.yaml', '--twin', 'rdm-today', '--keep', '--runs-dir', runs);
      await until('it stays up', () => run.said().includes('stays up'), TEST_MS / 2);
      expect(run.said()).toContain('verdict: pass');
      expect((await sandbox.run('xl', 'list')).stdout).toMatch(/^win7-igd /m);
      run.child.kill('SIGINT');
      expect((await run.ended).code).toBe(0);
      expect(sandbox.leftovers()).toEqual([]);
    },
    TEST_MS,
  );
});
