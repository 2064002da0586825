// Beginnings and ends of a host on real processes: Ctrl-C, a launcher that is killed, a hypervisor that is killed, two at once,
// and another terminal looking on. Nothing may be left in any case.
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { descendants, type Running, Sandbox, stillRunning, until } from '../support/hostloom.ts';

const TEST_MS = 120_000;
/** A scenario that would take for ever. */
const ENDLESS = `question: Does it end?
host: ${resolve('hosts/seed-2014-haswell.yaml')}
guests:
  - name: g
    config: "name = 'g'\\ntype = 'hvm'\\nmemory = 64\\nvcpus = 1\\n"
timeline:
  - { do: create, guest: g }
  - { do: wait-for, condition: { guest: g, is: crashed }, timeout: 600s }
expect:
  - { guest: g, is: running }
`;
/** One that is done at once. */
const SHORT = ENDLESS.replace(/ {2}- \{ do: wait-for.*\n/, '');

const HEAD = ENDLESS.slice(0, ENDLESS.indexOf('timeline:'));
/** Steps that kill, and what must be so afterwards. */
const AGENT_KILLED = `${HEAD.replace('vcpus = 1', "vcpus = 1\\non_crash = 'restart'")}timeline:
  - { do: create, guest: g }
  - { do: kill, what: guest-agent, guest: g }
  - { do: wait-for, condition: { dmesg: '\\(d2\\)' }, timeout: 10s }
  - { do: wait-for, condition: { guest: g, is: running }, timeout: 10s }
  - { do: check-invariants }
expect:
  - { guest: g, is: running }
  - never: '*'
`;
const HYPERVISOR_KILLED = `${HEAD}timeline:
  - { do: create, guest: g }
  - { do: kill, what: hypervisor }
expect:
  - { guest: g, is: absent }
`;

describe('a host', () => {
  let sandbox: Sandbox;

  beforeEach(() => {
    sandbox = new Sandbox();
    writeFileSync(join(sandbox.path, 'endless.yaml'), ENDLESS);
    writeFileSync(join(sandbox.path, 'short.yaml'), SHORT);
  });
  afterEach(() => sandbox.dispose());

  const startEndless = async (): Promise<Running> => {
    const running = sandbox.start('run', join(sandbox.path, 'endless.yaml'), '--runs-dir', join(sandbox.path, 'runs'));
    await until('the guest is waited for', () => running.said().includes('wait until g is crashed'));
    return running;
  };

  const pidOf = ({ child }: Running): number => child.pid as number; // it was started

  async function nothingIsLeft(before: ReturnType<typeof descendants>): Promise<void> {
    await until('all processes end', () => stillRunning(before).length === 0, 15_000);
    await until('all files go', () => sandbox.leftovers().length === 0, 5_000);
  }

  it(
    'is gone after Ctrl-C, every process and every file of it',
    async () => {
      const running = await startEndless();
      const before = descendants(pidOf(running));
      expect(before.length).toBeGreaterThan(4);
      running.child.kill('SIGINT');
      expect((await running.ended).code).toBe(130);
      await nothingIsLeft(before);
    },
    TEST_MS,
  );

  it(
    'is gone after its launcher was killed',
    async () => {
      const running = await startEndless();
      const before = descendants(pidOf(running));
      running.child.kill('SIGKILL');
      await running.ended;
      await nothingIsLeft(before);
    },
    TEST_MS,
  );

  it(
    'whose hypervisor is killed leaves the question open, and the next run works',
    async () => {
      const running = await startEndless();
      const before = descendants(pidOf(running));
      const hypervisor = before.find(({ command }) => command.includes('apps/hypervisor'));
      process.kill(hypervisor?.pid ?? 0, 'SIGKILL');
      const { code, stdout } = await running.ended;
      expect(code).toBe(2);
      expect(stdout).toContain('the hypervisor was ended by SIGKILL');
      await nothingIsLeft(before);
      const next = await sandbox.play(join(sandbox.path, 'short.yaml'));
      expect(next.code, next.stderr).toBe(0);
    },
    TEST_MS,
  );

  it(
    'restarts a guest whose agent was killed within 10 s, by on_crash, and a hypervisor that was killed leaves no guest',
    async () => {
      writeFileSync(join(sandbox.path, 'agent.yaml'), AGENT_KILLED);
      writeFileSync(join(sandbox.path, 'hypervisor.yaml'), HYPERVISOR_KILLED);
      for (const name of ['agent.yaml', 'hypervisor.yaml']) {
        const { code, stderr, result } = await sandbox.play(join(sandbox.path, name));
        expect(code, `${stderr}${JSON.stringify(result?.twins[0]?.assertions)}`).toBe(0);
      }
      expect(sandbox.leftovers()).toEqual([]);
    },
    TEST_MS,
  );

  it(
    'can be one of two: both runs pass, and `xl` asks which is meant',
    async () => {
      const first = await startEndless();
      const second = await startEndless();
      const before = [...descendants(pidOf(first)), ...descendants(pidOf(second))];
      const unclear = await sandbox.run('xl', 'list');
      expect(unclear.code).toBe(64);
      const ids = unclear.stderr.match(/endless-\d+-[0-9a-f]+/g) ?? [];
      expect(new Set(ids).size).toBe(2);
      const chosen = await sandbox.run('xl', '--host', ids[0] ?? '', 'list');
      expect(chosen.stdout).toMatch(/^Name +ID +Mem VCPUs\tState\tTime\(s\)\nDomain-0 .*\ng .*\n$/);
      const short = await sandbox.play(join(sandbox.path, 'short.yaml'));
      expect(short.code, short.stderr).toBe(0);
      for (const running of [first, second]) running.child.kill('SIGINT');
      expect((await Promise.all([first.ended, second.ended])).map(({ code }) => code)).toEqual([130, 130]);
      await nothingIsLeft(before);
    },
    TEST_MS,
  );

  it(
    'stays up for `xl` of another terminal, and a guest larger than its memory leaves nothing behind',
    async () => {
      const up = sandbox.start('up', 'hosts/seed-2014-haswell.yaml');
      await until('the host is up', () => up.said().includes('is up'));
      const before = descendants(pidOf(up));
      const created = await sandbox.run(
        'xl',
        'create',
        'scenarios/guests/win7-office.cfg',
        'maxmem=1536',
        'vga="none"',
      );
      expect(created.code, created.stderr).toBe(0);
      const freeBefore = (await sandbox.run('xl', 'info')).stdout;
      const tooLarge = await sandbox.run(
        'xl',
        'create',
        'scenarios/guests/win7-office.cfg',
        'name="large"',
        'memory=65536',
        'maxmem=65536',
      );
      expect(tooLarge.code).toBe(1);
      expect(tooLarge.stderr).not.toBe('');
      expect((await sandbox.run('xl', 'list')).stdout).not.toContain('large');
      expect((await sandbox.run('xl', 'info')).stdout).toBe(freeBefore);
      expect((await sandbox.run('xl', 'destroy', 'win7-office')).code).toBe(0);
      expect((await sandbox.run('xl', 'no-such-verb')).code).not.toBe(0);
      up.child.kill('SIGTERM');
      expect((await up.ended).code).toBe(0);
      await nothingIsLeft(before);
    },
    TEST_MS,
  );
});
