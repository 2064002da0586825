import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OperatorError } from './operator-error.ts';
import type { Scenario } from './scenario.ts';
import { loadScenario, parseScenario } from './scenario-file.ts';

const root = process.cwd();
const at = resolve(root, 'scenarios/test.yaml');
const parse = (text: string, invariants?: string[]): Scenario =>
  parseScenario(text, at, invariants ? { root, invariants } : { root });

const good = `question: Does it work?
host: hosts/seed-2014-haswell.yaml
policies: { shatter: naive }
guests:
  - name: win7
    config: guests/win7-gpu.cfg
    workload:
      - { run: boot-touch, mb: 64 }
  - name: small
    config: |
      memory = 64
      type = "hvm"
timeline:
  - { do: create, guest: win7 }
  - { at: 2s, do: gpu-dma, guest: win7, device: 0000:00:02.0, gfn: 0x7d0d6, attempts: attempts }
expect:
  - violated: dmaToGuestRamNeverFaults
  - { guest: win7, is: crashed }
twins:
  bad:
    kind: buggy
    title: as it was
  right:
    kind: fixed
    title: as it is
    attempts: 300
    policies: { iotlb.flush: deferred }
    guests:
      - name: win7
        set: { memory: 2048, pci: [] }
    expect:
      - never: '*'
`;

function problems(text: string, invariants?: string[]): string[] {
  try {
    parse(text, invariants);
    return [];
  } catch (error) {
    if (error instanceof OperatorError) return error.problems.map((p) => `${p.file}:${p.line} ${p.message}`);
    throw error;
  }
}

function mistakes(from: string, to: string): string[] {
  expect(good).toContain(from);
  return problems(good.replace(from, to));
}

describe('a host given as a scenario', () => {
  it('is told to be one, with what to do, instead of its keys one by one', () => {
    const text = readFileSync('hosts/seed-2014-haswell.yaml', 'utf8');
    const parse = () => parseScenario(text, 'hosts/seed-2014-haswell.yaml', { root: '.' });
    expect(parse).toThrow(/describes a host, not a scenario[\s\S]*hostloom up/);
  });
});

describe('merging', () => {
  it('lays a twin over the scenario: policies and settings by key, guests by name, the rest whole', () => {
    const [bad, right] = parse(good).twins;
    expect(bad).toMatchObject({ name: 'bad', kind: 'buggy', line: 20, attempts: 200, timeScale: 10 });
    expect(bad?.policies).toMatchObject({ shatter: 'naive', 'iotlb.flush': 'sync' });
    expect(right?.policies).toMatchObject({ shatter: 'naive', 'iotlb.flush': 'deferred' });
    expect(right?.guests.map((g) => [g.name, g.set, g.workload.length])).toEqual([
      ['win7', { memory: 2048, pci: [] }, 1],
      ['small', {}, 0],
    ]);
    expect(right?.expect).toEqual([{ check: 'never', invariant: '*', line: 32 }]);
    expect(right?.timeline).toEqual([
      { do: 'create', guest: 'win7', set: {}, line: 14, atUs: null, times: 1, expectError: null },
      expect.objectContaining({ do: 'gpu-dma', gfn: 0x7d0d6, attempts: 300, atUs: 2_000_000, device: 0x10 }),
    ]);
  });

  it('reads the steps about reserved memory and windows', () => {
    const steps = [
      '- { do: pci-attach, guest: win7, device: 0000:00:14.0, policy: relaxed }',
      '- { do: start, guest: win7, workload: { run: usb, device: 0000:00:14.0, rate: 16 } }',
      '- { do: reserved-io, guest: win7, device: 0000:00:14.0 }',
      '- { do: enter-reserved, guest: win7, device: 0000:00:14.0, how: move, attempts: 20 }',
      '- { do: device-model, guest: win7, device: 0000:00:14.0, how: { page: 0x1000 } }',
      '- { do: device-model, guest: win7, device: 0000:00:14.0, how: { bar: 0 } }',
      '- { do: bar-io, guest: win7, device: 0000:01:00.0, bar: 1 }',
    ];
    const device = 0xa0;
    const { timeline } = parse(good.replace('  - { do: create, guest: win7 }', steps.map((s) => `  ${s}`).join('\n')))
      .twins[0] ?? {
      timeline: [],
    };
    expect(timeline.slice(0, -1)).toEqual([
      expect.objectContaining({ do: 'pci-attach', device, policy: 'relaxed' }),
      expect.objectContaining({ do: 'start', workload: { run: 'usb', device, rate: 16 } }),
      expect.objectContaining({ do: 'reserved-io', device, attempts: 200 }),
      expect.objectContaining({ do: 'enter-reserved', how: 'move', attempts: 20 }),
      expect.objectContaining({ do: 'device-model', how: { page: 0x1000 } }),
      expect.objectContaining({ do: 'device-model', how: { bar: 0 } }),
      expect.objectContaining({ do: 'bar-io', device: 0x100, bar: 1, attempts: 200 }),
    ]);
  });

  it('gives a scenario without twins one plain twin', () => {
    const twins = parse(good.slice(0, good.indexOf('twins:'))).twins;
    expect(twins.map((t) => [t.name, t.kind, t.title])).toEqual([['plain', 'plain', 'Does it work?']]);
  });

  it('reads xl.cfg files beside the scenario and texts inside it, with the line they begin on', () => {
    const guests = parse(good).twins[0]?.guests;
    expect(guests?.[0]?.config).toMatchObject({ file: 'scenarios/guests/win7-gpu.cfg', firstLine: 1 });
    expect(guests?.[1]?.config).toEqual({
      file: 'scenarios/test.yaml',
      firstLine: 11,
      text: 'memory = 64\ntype = "hvm"\n',
    });
  });

  it('takes dom0 from the host, and from the scenario where it says otherwise', () => {
    expect(parse(good).twins[0]?.dom0).toEqual({ memoryMb: 1024, vcpus: 2, workload: [] });
    const small = parse(
      `${good}dom0: { memoryMb: 256, workload: [{ run: nic, device: 0000:03:00.0, ringFrames: 64 }] }\n`,
    );
    expect(small.twins[1]?.dom0).toEqual({
      memoryMb: 256,
      vcpus: 2,
      workload: [{ run: 'nic', device: 0x300, ringFrames: 64, rate: 'max' }],
    });
  });

  it('turns faults into the model’s fault plan', () => {
    const text = `${good}faults:
  - { at: { kind: frameAlloc, nth: 3, every: 5 }, do: { errno: ENOMEM } }
  - { at: { kind: ptWrite, nth: 1 }, on: { process: hypervisor, pcpu: 1 }, do: { delay: 200us } }
  - { at: { kind: iotlbFlush, nth: 1 }, do: { stall: 2s } }
`;
    expect(parse(text).twins[0]?.faults).toEqual([
      { at: { kind: 'frameAlloc', nth: 3, every: 5 }, do: { errno: 12 } },
      { at: { kind: 'ptWrite', nth: 1 }, on: { process: 'hypervisor', pcpu: 1 }, do: { delayUs: 200 } },
      { at: { kind: 'iotlbFlush', nth: 1 }, do: { stallMs: 2000 } },
    ]);
  });
});

describe('refuses, with the line', () => {
  const s = 'scenarios/test.yaml';
  it.each([
    ['an unknown key', 'timeline:', 'tiemline:', `${s}:13 unknown key \`tiemline\` (did you mean \`timeline\`?)`],
    [
      'an unknown key of a step',
      'attempts: attempts',
      'atempts: 5',
      `${s}:15 unknown key \`atempts\` (did you mean \`attempts\`?)`,
    ],
    ['an unknown step', 'do: create', 'do: craete', `${s}:14 \`do\` cannot be "craete" (did you mean \`create\`?)`],
    [
      'an unknown guest',
      'do: create, guest: win7',
      'do: create, guest: win8',
      `${s}:14 unknown guest \`win8\` (did you mean \`win7\`?)`,
    ],
    [
      'dom0 as a guest to create',
      'do: create, guest: win7',
      'do: create, guest: dom0',
      `${s}:14 dom0 cannot be the guest of create`,
    ],
    [
      'an unknown device',
      '0000:00:02.0',
      '0000:05:00.0',
      `${s}:15 unknown device 0000:05:00.0: the host seed-2014-haswell has none`,
    ],
    [
      'a frame without 0x',
      'gfn: 0x7d0d6',
      'gfn: 7d0d6',
      `${s}:15 \`gfn\`: must be a frame number or a choice, not "7d0d6"`,
    ],
    ['a duration without unit', 'at: 2s', 'at: 2', `${s}:15 \`at\`: must be a duration, not 2`],
    [
      'an unknown policy',
      '{ shatter: naive }',
      '{ shater: naive }',
      `${s}:3 unknown policy \`shater\` (did you mean \`shatter\`?)`,
    ],
    [
      'an activity that the guest does not have',
      'do: create, guest: win7 }',
      'do: begin, guest: win7, run: borrower }',
      `${s}:14 win7 has no activity borrower`,
    ],
    ['a policy’s wrong value', '{ shatter: naive }', '{ shatter: fast }', `${s}:3 \`shatter\` cannot be "fast"`],
    [
      'an unknown assertion',
      'violated: dma',
      'violates: dma',
      `${s}:17 unknown assertion \`violates\` (did you mean \`violated\`?)`,
    ],
    [
      'an assertion’s wrong value',
      'is: crashed',
      'is: crash',
      `${s}:18 \`is\` cannot be "crash" (did you mean \`crashed\`?)`,
    ],
    [
      'an unknown counter',
      "never: '*'",
      'counter: iommu.shatters',
      `${s}:32 \`counter\` cannot be "iommu.shatters" (did you mean \`iommu.ptShatters\`?)`,
    ],
    ['a counter without number', "never: '*'", 'counter: iommu.map', `${s}:32 \`counter\` says no number`],
    [
      'a twin that is not there',
      "never: '*'",
      'greater: { counter: iommu.map, thanTwin: bat }',
      `${s}:32 unknown twin \`bat\` (did you mean \`bad\`?)`,
    ],
    [
      'a bad regular expression',
      "never: '*'",
      "dmesg: '('",
      `${s}:32 \`dmesg\`: must be a regular expression, not "("`,
    ],
    [
      'a host that is not there',
      'hosts/seed-2014-haswell.yaml',
      'hosts/none.yaml',
      `${s}:2 hosts/none.yaml: no such file`,
    ],
    ['an xl.cfg that is not there', 'guests/win7-gpu.cfg', 'guests/none.cfg', `${s}:6 guests/none.cfg: no such file`],
    ['a guest without config', '    config: guests/win7-gpu.cfg\n', '', `${s}:5 guest \`win7\` has no config`],
    ['a guest named twice', 'name: small', 'name: win7', `${s}:9 guest \`win7\` is already on line 5`],
    ['a twin without kind', '    kind: fixed\n', '', `${s}:23 missing key \`kind\``],
    ['a twin’s bad name', '  right:', '  Right One:', `${s}:23 \`Right One\` is not a good name`],
    [
      'an empty timeline',
      /timeline:[\s\S]*expect:\n {2}- violated/.exec(good)?.[0] ?? '',
      'timeline: []\nexpect:\n  - violated',
      `${s}:13 \`timeline\` must have at least 1 item`,
    ],
    [
      'a list where a map belongs',
      'policies: { shatter: naive }',
      'policies: [naive]',
      `${s}:3 \`policies\` must be a map of keys, not a list`,
    ],
    [
      'a yes that xl does not know',
      'memory: 2048',
      'memory: true',
      `${s}:30 \`memory\`: must be an xl.cfg value, not true`,
    ],
  ])('%s', (_, from, to, problem) => {
    expect(mistakes(from, to)).toEqual([problem]);
  });

  it('a host with mistakes of its own, at their own place', () => {
    expect(mistakes('hosts/seed-2014-haswell.yaml', 'scenarios/pod-gpu-dma.yaml')).toContain(
      'scenarios/pod-gpu-dma.yaml:5 unknown key `question`',
    );
  });

  it('no timeline, no expectation, no host', () => {
    expect(problems('question: Why?\n')).toEqual([
      `${s}:1 no host`,
      `${s}:1 no timeline`,
      `${s}:1 no \`expect\`: the run would judge nothing`,
    ]);
  });

  it('a dom0 that does not fit its host', () => {
    expect(problems(`${good}dom0:\n  memoryMb: 9000\n`)).toEqual([
      `${s}:34 dom0 of 9000 MiB does not fit the host seed-2014-haswell`,
    ]);
  });

  it('an invariant that nobody knows, where the names are known', () => {
    expect(problems(good, ['dmaToGuestRamNeverFault'])).toEqual([
      `${s}:17 unknown invariant \`dmaToGuestRamNeverFaults\` (did you mean \`dmaToGuestRamNeverFault\`?)`,
    ]);
  });

  it('a fault without action, and one of an unknown kind', () => {
    expect(problems(`${good}faults:\n  - { at: { kind: frameAloc, nth: 1 }, do: {} }\n`)).toEqual([
      `${s}:34 \`kind\` cannot be "frameAloc" (did you mean \`frameAlloc\`?)`,
      `${s}:34 \`do\`: one of delay, stall and errno is needed, not a map of keys`,
    ]);
  });

  it('a scenario that is not there', () => {
    expect(() => loadScenario(resolve(root, 'scenarios/none.yaml'), { root })).toThrow(
      'scenarios/none.yaml: no such file',
    );
  });
});

describe('shipped scenarios', () => {
  const files = readdirSync('scenarios').filter((f) => f.endsWith('.yaml'));

  it.each(files)('%s loads, and every twin makes at least 200 attempts', (file) => {
    const scenario = loadScenario(resolve(root, 'scenarios', file), { root });
    expect(`${scenario.name}.yaml`).toBe(file);
    for (const twin of scenario.twins) expect(twin.attempts).toBeGreaterThanOrEqual(200);
  });

  it('a buggy twin names the invariant it violates; a fixed one allows no violation and no fault', () => {
    for (const file of files) {
      for (const twin of loadScenario(resolve(root, 'scenarios', file), { root }).twins) {
        if (twin.kind === 'buggy') expect(twin.expect.some((a) => a.check === 'violated')).toBe(true);
        if (twin.kind !== 'fixed') continue;
        expect(twin.expect).toContainEqual(expect.objectContaining({ check: 'never', invariant: '*' }));
        expect(twin.expect).toContainEqual(expect.objectContaining({ check: 'noFault', device: null }));
      }
    }
  });

  it('pod-gpu-dma expects the address of the story, on a sharing and on a non-sharing host', () => {
    const { twins } = loadScenario(resolve(root, 'scenarios/pod-gpu-dma.yaml'), { root });
    const buggy = twins.filter((t) => t.kind === 'buggy');
    expect(buggy.map((t) => t.host.name)).toEqual(['seed-2014-haswell', 'seed-2015-broadwell']);
    for (const twin of buggy) {
      const fault = twin.expect.find((a) => a.check === 'fault');
      expect(fault).toMatchObject({ addr: 0x7d0d6000, kind: 'write', reason: 5 });
    }
  });
});

it('answers any damaged scenario with a scenario or an OperatorError, never with anything else', () => {
  const texts = readdirSync('scenarios')
    .filter((f) => f.endsWith('.yaml'))
    .map((f) => readFileSync(`scenarios/${f}`, 'utf8'));
  const words = [
    '{',
    ']',
    '&a',
    '*a',
    ': ',
    '- ',
    '0x',
    '~',
    '!!set',
    '\t',
    '\n  - ',
    'do: create',
    'null',
    '[]',
    '-1',
    '1e999',
  ];
  const junk = fc.oneof(fc.string(), fc.constantFrom(...words));
  const damage = fc.record({
    text: fc.constantFrom(good, ...texts),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    cut: fc.nat(40),
    junk,
  });
  fc.assert(
    fc.property(damage, ({ text, at: where, cut, junk: insert }) => {
      const from = Math.floor(where * text.length);
      try {
        parse(text.slice(0, from) + insert + text.slice(from + cut));
      } catch (error) {
        expect(error).toBeInstanceOf(OperatorError);
      }
    }),
    { numRuns: 300 },
  );
});
