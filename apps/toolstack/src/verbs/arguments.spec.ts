import { expect, it } from 'vitest';
import { helpOf, helpOfAll, readArguments } from './arguments.ts';
import { XlFailure } from './verb.ts';

function refusal(read: () => unknown) {
  try {
    read();
  } catch (error) {
    if (error instanceof XlFailure) return error.reply;
    throw error;
  }
  throw new Error('not refused');
}

it('takes options anywhere, several letters at once and in their long form', () => {
  const options = { a: 'all', w: 'wait' };
  for (const args of [
    ['-aw', 'web'],
    ['web', '-a', '-w'],
    ['--all', 'web', '--wait'],
  ]) {
    const { words, has } = readArguments('shutdown', args, 1, options);
    expect([words, has('a'), has('w')]).toEqual([['web'], true, true]);
  }
});

it('refuses an option that the verb does not have, as getopt does, with status 2', () => {
  const reply = { exitCode: 2, stdout: '', stderr: "option `x' not supported.\n" };
  expect(refusal(() => readArguments('list', ['-x'], 0))).toEqual(reply);
});

it('says how many arguments are missing and then how the verb is used, with status 2', () => {
  const { exitCode, stdout, stderr } = refusal(() => readArguments('mem-set', ['web'], 2));
  expect([exitCode, stderr]).toEqual([2, "'xl mem-set' requires at least 2 arguments.\n\n"]);
  expect(stdout).toBe(helpOf('mem-set'));
  expect(refusal(() => readArguments('destroy', [], 1)).stderr).toBe("'xl destroy' requires at least 1 argument.\n\n");
});

it('prints the help of a verb for -h, which is no failure', () => {
  expect(refusal(() => readArguments('list', ['-h'], 0))).toEqual({ exitCode: 0, stdout: helpOf('list'), stderr: '' });
  expect(helpOf('list')).toMatch(/^Usage: xl \[-vtT\] list \[options\] \[Domain\]\n\n.+\.\n\nOptions:\n\n/);
  expect(helpOf('destroy')).toContain('[-vtTf]');
  expect(helpOf('nonsense')).toBe('command "nonsense" not implemented\n');
  expect(helpOfAll()).toMatch(/^ pci-assignable-list \S/m);
});
