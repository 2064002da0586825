import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { OperatorError } from '#formats/operator-error';
import { parseScenario } from '#formats/scenario-file';
import { checkGuests } from './guest-checks.ts';

const root = process.cwd();

/** The problems of a scenario whose guest has these lines; they begin on line 5. */
function problems(
  config: readonly string[],
  set = '{}',
): readonly { file: string; line?: number; message: string; remedy: string }[] {
  const text = [
    'question: q',
    'host: hosts/seed-2014-haswell.yaml',
    'guests:',
    `  - { name: g, set: ${set}, config: "${config.join('\\n')}\\n" }`,
    'timeline: [{ do: create, guest: g }]',
    'expect: [{ guest: g, is: running }]',
  ].join('\n');
  const scenario = parseScenario(text, resolve(root, 'scenarios/x.yaml'), { root });
  try {
    checkGuests(scenario);
    return [];
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    return error.problems;
  }
}

describe('guests are checked before anything starts', () => {
  it('a guest that fits and has devices of the host passes', () => {
    expect(problems(["name = 'g'", "type = 'hvm'", 'memory = 512', "pci = [ '0000:00:02.0' ]"])).toEqual([]);
  });

  it('a guest larger than what dom0 leaves of the host is refused, with the room there is', () => {
    const [problem] = problems(["name = 'g'", "type = 'hvm'", 'memory = 16384']);
    expect(problem?.message).toMatch(/guest g of 16384 MiB does not fit: seed-2014-haswell has \d+ MiB/);
    expect(problem?.remedy).toMatch(/at most \d+ MiB/);
  });

  it('a size that the scenario sets is refused where the scenario sets it', () => {
    const [problem] = problems(["name = 'g'", "type = 'hvm'", 'memory = 512'], '{ memory: 16384 }');
    expect(problem).toMatchObject({ file: 'scenarios/x.yaml', line: 4 });
  });

  it('a device that the host does not have is refused, with those it has', () => {
    const [problem] = problems(["name = 'g'", "type = 'hvm'", 'memory = 64', "pci = [ '07:00.0' ]"]);
    expect(problem?.message).toContain('0000:07:00.0');
    expect(problem?.remedy).toContain('0000:00:02.0');
  });

  it('an xl.cfg that does not parse is refused with the line of the text', () => {
    const [problem] = problems(["name = 'g'", 'memory = = 4']);
    expect(problem?.line).toBe(5);
  });
});
