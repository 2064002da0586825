import { expect, test } from 'vitest';
import { callColumns } from '#wire/call-table';
import { operationHash, runNumber, runOf } from './run-number.ts';

test('every operation has a number of its own, and comes back with its domain', () => {
  const operations = [...callColumns.values()].map(({ op }) => op);
  const names = new Map(operations.map((op) => [operationHash(op), op as string]));
  expect(names.size).toBe(operations.length);
  for (const op of operations) expect(runOf(runNumber(op, 0x7fef), names)).toEqual({ domid: 0x7fef, call: op });
  expect(runOf(runNumber(undefined, 3), names)).toEqual({ domid: 3, call: '' });
});
