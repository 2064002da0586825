import { describe, expect, it } from 'vitest';
import { fixture, search, told } from '../test-support/explore.ts';

describe('step program', () => {
  it('shows a race, a failure that nobody looked at, a torn entry and a bad argument, and clears the right one', async () => {
    const reports = await search(fixture('paper-steps'));
    expect(reports.map(({ variant, pass }) => [variant, pass])).toEqual([
      ['freed before the flush', true],
      ['a failure is not looked at', true],
      ['in two stores', true],
      ['an odd gfn', true],
      ['right', true],
    ]);
    const under = (i: number): string => reports[i]?.counterexample?.under ?? '';
    expect(under(1)).toBe('gfn 4; ptAlloc io(2) of owner fails');
    expect(under(3)).toBe('gfn 5');
    expect(reports[4]).toMatchObject({ complete: 2, cases: 4 });
  });

  it('a counterexample with arguments and a failure is replayed from its string, word by word', async () => {
    const [, failing] = await search(fixture('paper-steps'));
    const recorded = failing?.counterexample?.replay ?? '';
    expect(recorded).toContain(':f0:a0');
    const { parseReplay } = await import('./replay-string.ts');
    const [, replayed] = await told(fixture('paper-steps'), { is: 'replay', recorded: parseReplay(recorded) }).then(
      (messages) => messages.filter(({ is }) => is === 'facts' || is === 'replayed'),
    );
    if (replayed?.is !== 'replayed') throw new Error('nothing was replayed');
    expect(replayed.report.atRest.map(({ invariant }) => invariant)).toContain('noIommuLeafToFreeFrame');
    const changes = replayed.report.steps.flatMap(({ changes: some }) => some);
    expect(changes).toContain('frame 3, owner: d1 → nobody');
  });

  it('schedules by chance find what the exhaustive search finds, arguments and failures drawn as well', async () => {
    const wrong = ['freed before the flush', 'a failure is not looked at', 'an odd gfn'];
    const reports = await search(fixture('paper-steps'), { scheduler: 'random' }, wrong);
    expect(reports.every(({ pass }) => pass)).toBe(true);
  });
});

describe('no progress', () => {
  it('a state that repeats is a finding when nobody else can change it, and a reason to let others in when somebody can', async () => {
    const [answered, stuck, bounded] = await search(fixture('spins'), { bound: 0 });
    expect(answered).toMatchObject({ pass: true });
    expect(stuck).toMatchObject({ pass: true, counterexample: { invariant: 'callsMakeProgress' } });
    expect(stuck?.counterexample?.text).toMatch(/each time everything is as it was$/);
    expect(stuck?.counterexample?.steps).toBeLessThan(5000);
    expect(bounded).toMatchObject({ pass: true });
  });
});
