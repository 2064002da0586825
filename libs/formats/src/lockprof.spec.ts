import { expect, test } from 'vitest';
import { formatLockProfile, type LockProfileRow } from './lockprof.ts';

const domctl: LockProfileRow = {
  scope: 'global',
  name: 'domctl_lock',
  lockCnt: 12,
  blockCnt: 3,
  holdNs: 1_500_000_000,
  blockNs: 2_000_001,
  inXen: true,
};
const p2m: LockProfileRow = {
  scope: 1,
  name: 'p2m',
  lockCnt: 48_210,
  blockCnt: 611,
  holdNs: 250_000_000,
  blockNs: 40_000_000,
  inXen: false,
};

test('a profile has the columns of xenlockprof, and marks what real Xen does not profile', () => {
  expect(formatLockProfile({ rows: [domctl, p2m], profilingNs: 12_345_678_901 })).toBe(
    [
      'global lock domctl_lock                           : lock:          12(         1.500000000s), block:           3(         0.002000001s)',
      'domain 1 lock p2m                                 : lock:       48210(         0.250000000s), block:         611(         0.040000000s) *',
      'total profiling time:         12.345678901s',
      'total locked time:             1.750000000s',
      'total blocked time:            0.042000001s',
      "* not in real Xen's profile; these rows add 0.250000000s locked and 0.040000000s blocked to the totals",
      '',
    ].join('\n'),
  );
});

test('without marked rows there is no legend', () => {
  expect(formatLockProfile({ rows: [domctl], profilingNs: 1 })).not.toContain('*');
});

test('rows lost while the table was read are announced first', () => {
  expect(formatLockProfile({ rows: [domctl], profilingNs: 1, missing: 4 })).toMatch(
    /^data incomplete, 4 records are missing!\nglobal lock domctl_lock/,
  );
});
