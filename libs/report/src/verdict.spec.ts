import { expect, test } from 'vitest';
import { exitCodeOf, judgeRun, judgeTwin } from './verdict.ts';

test('a twin passes only if every assertion holds', () => {
  expect(judgeTwin([{ ok: true }, { ok: true }])).toBe('pass');
  expect(judgeTwin([])).toBe('pass');
});

test('an unknown assertion makes a twin unknown, unless another one is false', () => {
  expect(judgeTwin([{ ok: true }, { ok: 'unknown' }])).toBe('unknown');
  expect(judgeTwin([{ ok: 'unknown' }, { ok: false }, { ok: true }])).toBe('fail');
});

test('a run is as bad as its worst twin, and unknown if none ran', () => {
  expect(judgeRun([{ verdict: 'pass' }, { verdict: 'unknown' }, { verdict: 'fail' }])).toBe('fail');
  expect(judgeRun([{ verdict: 'pass' }, { verdict: 'unknown' }])).toBe('unknown');
  expect(judgeRun([{ verdict: 'pass' }])).toBe('pass');
  expect(judgeRun([])).toBe('unknown');
});

test('exit codes are 0, 1 and 2', () => {
  expect((['pass', 'fail', 'unknown'] as const).map(exitCodeOf)).toEqual([0, 1, 2]);
});
