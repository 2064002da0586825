// Shared GPUs in host descriptions and scenarios: what the model is told of them, and every mistake with its line.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { hostConfig } from './host-config.ts';
import { loadHost, parseHost } from './host-file.ts';
import { OperatorError } from './operator-error.ts';
import { resolvePolicies } from './policies.ts';
import { parseScenario } from './scenario-file.ts';

const HOST = 'hosts/lab-2016-shared-gpus.yaml';

const problems = (run: () => unknown): string[] => {
  try {
    run();
    return [];
  } catch (error) {
    if (error instanceof OperatorError) return error.problems.map(({ message }) => message);
    throw error;
  }
};

describe('a host', () => {
  it('tells the model its GPUs, their apertures, and how many bus frames dom0 may manage', () => {
    const { mediatedGpus = [], busFrames } = hostConfig(loadHost(HOST), resolvePolicies({}));
    expect(mediatedGpus.map(({ gmPages, aperturePages }) => [gmPages, aperturePages])).toEqual([
      [262_144, 65_536],
      [131_072, 32_768],
      [131_072, 65_536],
    ]);
    expect([mediatedGpus[0]?.apertureBase, busFrames]).toEqual([0xe000_0000, 256]);
  });

  it('without any has none', () => {
    const config = hostConfig(loadHost('hosts/seed-2015-broadwell.yaml'), resolvePolicies({}));
    expect([config.mediatedGpus, config.busFrames]).toEqual([undefined, undefined]);
  });

  const mistake = (from: string, to: string): string[] => {
    const text = readFileSync(HOST, 'utf8');
    expect(text).toContain(from);
    return problems(() => parseHost(text.replace(from, to), 'h.yaml'));
  };
  const first = '{ device: 0000:00:02.0, graphicsMemoryMb: 1024, apertureBar: 2 }';

  it('is refused with a GPU that it does not have, has twice, or that has no such window', () => {
    expect(mistake(first, first.replace('00:02.0', '07:00.0'))[0]).toMatch(/0000:07:00\.0/);
    expect(mistake(first, first.replace('00:02.0', '01:00.0'))).toContain('0000:01:00.0 is listed twice');
    expect(mistake(first, first.replace('Bar: 2', 'Bar: 4'))).toEqual(['BAR 4 is no aperture']);
    expect(mistake(first, first.replace('1024', '128'))).toEqual([
      '128 MiB of graphics memory are less than the aperture',
    ]);
  });
});

describe('a scenario', () => {
  const text = [
    'question: q',
    `host: ${HOST}`,
    'dom0: { memoryMb: 512, vcpus: 2, workload: [{ run: mediator, device: 0000:00:02.0 }] }',
    'attempts: 300',
    'guests:',
    '  - name: g',
    '    config: scenarios/guests/desktop-vgpu.cfg',
    '    workload: [{ run: vgpu, device: 0000:00:02.0 }]',
    'timeline:',
    '  - { do: vgpu, guest: g, device: 0000:00:02.0, act: attach }',
    '  - { do: vgpu, guest: g, device: 0000:00:02.0, act: balloon }',
    '  - { do: bus-frames, device: 0000:03:00.0, act: reuse }',
    'expect:',
    "  - never: '*'",
  ].join('\n');
  const read = (source: string) => parseScenario(source, 'scenarios/s.yaml', { root: '.' });
  const mistake = (from: string, to: string): string[] => {
    expect(text).toContain(from);
    return problems(() => read(text.replace(from, to)));
  };

  it('says what drivers do: once what is done once, else as often as the scenario', () => {
    const [twin] = read(text).twins;
    expect(twin?.timeline.map((step) => ('attempts' in step ? step.attempts : null))).toEqual([1, 300, 300]);
    expect(twin?.guests[0]?.workload).toEqual([
      { run: 'vgpu', device: 0x10, firstGfn: 0x5000, pagesGfn: null, frames: 16 },
    ]);
  });

  it('is refused where nobody mediates, or the mediator has no vCPU to sleep on', () => {
    expect(mistake('run: mediator, device: 0000:00:02.0', 'run: mediator, device: 0000:01:00.0')).toEqual([
      'nobody mediates 0000:00:02.0: no guest can be given a part of it',
    ]);
    expect(mistake('vcpus: 2', 'vcpus: 1')[0]).toMatch(/^1 mediators need 2 vCPUs/);
    expect(mistake('{ run: vgpu, device: 0000:00:02.0 }', '{ run: mediator, device: 0000:00:02.0 }')).toContain(
      'a mediator runs in dom0',
    );
  });

  it('is refused where a guest has no driver, or the device is none that can be shared', () => {
    expect(mistake('workload: [{ run: vgpu, device: 0000:00:02.0 }]', 'workload: []')).toEqual([
      'g has no driver for 0000:00:02.0',
    ]);
    expect(mistake('{ run: vgpu, device: 0000:00:02.0 }', '{ run: vgpu, device: 0000:03:00.0 }')[0]).toMatch(
      /^0000:03:00\.0 is no GPU that can be shared/,
    );
  });
});
