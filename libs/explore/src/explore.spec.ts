import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { fixture, search, shipped, told } from '../test-support/explore.ts';
import { parseReplay } from './replay-string.ts';
import { ExplorerFailed } from './session.ts';

const litmusNames = readdirSync(fileURLToPath(new URL('../../../litmus/', import.meta.url)))
  // One actor alone has one order.
  .filter((name) => name.endsWith('.ts') && name !== 'hypercall-edges.ts')
  .map((name) => name.slice(0, -'.ts'.length));

describe('exhaustive search', () => {
  it('two actors of twenty steps have 762 orders with at most two preemptions, and all of them are played', async () => {
    const [report] = await search(fixture('twenty-steps'), { reduce: false, states: false });
    expect(report).toMatchObject({ pass: true, complete: 2, schedules: 762, distinct: 762 });
  });

  it.each(litmusNames)(
    'every variant of litmus/%s.ts does what it is expected to, with the reduction and without',
    async (name) => {
      const reduced = await search(shipped(name));
      const whole = await search(shipped(name), { reduce: false });
      for (const [i, report] of reduced.entries()) {
        expect(report).toMatchObject({ pass: true, problem: null });
        const other = whole[i];
        expect(other).toMatchObject({ variant: report.variant, pass: true, complete: report.complete });
        expect(other?.counterexample?.preemptions).toBe(report.counterexample?.preemptions);
        if (report.counterexample === null) {
          expect(Object.keys(other?.broken ?? {})).toEqual(Object.keys(report.broken));
          expect(report.distinct).toBeLessThanOrEqual(other?.distinct ?? 0);
        }
      }
    },
  );

  it.each(['random', 'pct'] as const)(
    '%s finds what the exhaustive search finds, and it shrinks to no more preemptions',
    async (scheduler) => {
      const [found] = await search(shipped('get-gfn-lock'), { scheduler }, ['unlocked']);
      const [proof] = await search(shipped('get-gfn-lock'), {}, ['unlocked']);
      expect(found?.counterexample?.preemptions).toBe(proof?.counterexample?.preemptions);
      expect(found?.counterexample?.steps).toBe(proof?.counterexample?.steps);
    },
  );

  it('operations that a counterexample does not need are left out of it', async () => {
    const [report] = await search(fixture('many-operations'), { scheduler: 'random' });
    const recorded = parseReplay(report?.counterexample?.replay ?? '');
    expect(recorded.operations?.[0]).toBe(~0 & ~1 & ~4);
    const [again] = (await told(fixture('many-operations'), { is: 'replay', recorded })).filter(
      (m) => m.is === 'replayed',
    );
    expect(again?.is === 'replayed' && again.report.steps.flatMap(({ findings }) => findings)).toMatchObject([
      { invariant: 'pageStaysZero' },
    ]);
  });
});

describe('replay', () => {
  it('the string of a counterexample shows its steps, what each changed, and the violation', async () => {
    const [report] = await search(shipped('shatter'), {}, ['break-before-make']);
    const recorded = parseReplay(report?.counterexample?.replay ?? '');
    const replayed = (await told(shipped('shatter'), { is: 'replay', recorded })).find((m) => m.is === 'replayed');
    const steps = replayed?.is === 'replayed' ? replayed.report.steps : [];
    expect(steps.flatMap(({ changes }) => changes)).toContain('I/O table of d1, dfn 200: mfn 400 rw (2M) → absent');
    expect(steps.flatMap(({ findings }) => findings.map(({ invariant }) => invariant))).toEqual([
      'neighboursStayMapped',
    ]);
    expect(steps.some(({ held }) => held === '{p2m(d1), iommuMapping(d1)}')).toBe(true);
  });

  it('a string of a test that has changed since is refused', async () => {
    const recorded = { path: 'test.ts', variant: 'naive', runs: 'A3B1', hash: '0123456789abcdef' };
    await expect(told(shipped('shatter'), { is: 'replay', recorded })).rejects.toThrow(
      'does not go as it was written down',
    );
  });
});

describe('what an author may get wrong', () => {
  const variant = async (name: string): Promise<string> => {
    const [report] = await search(fixture('wrong-ends'), { limits: { schedules: 2000, seconds: 20 } }, [name]);
    expect(report?.pass).toBe(true);
    return report?.counterexample?.text ?? '';
  };
  const failure = async (name: string): Promise<ExplorerFailed> => {
    const error = await search(fixture('wrong-ends'), {}, [name]).then(
      () => null,
      (caught: unknown) => caught,
    );
    if (!(error instanceof ExplorerFailed)) throw error ?? new Error('nothing failed');
    return error;
  };

  it('a wait-for cycle is a finding that names who holds what', async () => {
    expect(await variant('locks in two orders')).toMatch(
      /first waits for pod\(d2\) held by second \{pod\(d2\)\}; second waits for pod\(d1\) held by first \{pod\(d1\)\}/,
    );
  });

  it('a lock that is never released is a finding', async () => {
    expect(await variant('a lock is kept')).toBe('first waits for pod(d2) held by second {pod(d2)}; second is done');
  });

  it('an actor that repeats its steps for ever makes no progress', async () => {
    expect(await variant('the same steps for ever')).toBe(
      'second repeats the same steps without an end: p2mRead, ptAlloc; each time everything is as it was',
    );
  });

  it('a host panic is a finding with its text', async () => {
    expect(await variant('wrong lock order')).toContain('mm locking order violation');
  });

  it('an exception is told with its place, and there is no verdict', async () => {
    const { mistake } = await failure('throws');
    expect(mistake.exitCode).toBe(2);
    expect(mistake.message).toMatch(/^test\.ts:\d+:\d+: second broke off after \d+ steps: Error: not what I wanted/);
  });

  it('an actor that runs without a step is told, and all threads end', async () => {
    const { mistake } = await failure('runs without a step');
    expect(mistake.message).toMatch(
      /^second has run for \d+ s without a step, after \d+ steps, the last one read: it loops$/,
    );
    expect(mistake.exitCode).toBe(2);
  });

  it('an actor that is not deterministic is found out', async () => {
    expect((await failure('tosses a coin')).mistake.message).toContain('went differently');
  });

  it('an invariant that nobody declares is refused', async () => {
    expect((await failure('undeclared')).mistake).toMatchObject({
      exitCode: 64,
      message: expect.stringContaining('allIsWell'),
    });
  });

  it('a wrong test is refused with all its mistakes, their lines and remedies', async () => {
    const error = await search(fixture('wrong-test')).catch((caught: unknown) => caught);
    const text = error instanceof Error ? error.message : '';
    expect(text).toContain('test.ts: it has no source');
    expect(text).toContain(
      "test.ts:5: actors.nobody: its kind is firmware\n    → write kind: 'software' or kind: 'hardware'",
    );
    expect(text).toContain(
      'test.ts:6: never: there is no invariant neighboursStayMaped\n    → did you mean neighboursStayMapped?',
    );
    expect(text).toContain('test.ts:8: variants.one has no expected verdict');
    expect(text).toContain('test.ts:8: variants.one: there is no policy shater\n    → did you mean shatter?');
    expect(text).toContain('test.ts:10: variants.two replaces the actor stranger, which the test does not have');
  });
});

describe('fault sweep', () => {
  it('a failure of any fallible step leaves the fixed variants sound', async () => {
    const messages = await told(shipped('shatter'), {
      is: 'fault-sweep',
      variants: ['atomic', 'atomic, shared tables'],
    });
    const reports = messages.flatMap((m) => (m.is === 'swept' ? [m.report] : []));
    expect(reports.map(({ broken }) => broken)).toEqual([[], []]);
    expect(reports.map(({ points }) => points)).toEqual([expect.any(Number), expect.any(Number)]);
    expect(Math.min(...reports.map(({ points }) => points))).toBeGreaterThan(2);
  });
});
