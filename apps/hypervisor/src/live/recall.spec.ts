import { expect, test } from 'vitest';
import { DOMID_SELF } from '#model/frames/addresses';
import { Recall } from './recall.ts';

test('who changed a gfn last: the newest first, by range and by list, one’s own domain by its number', () => {
  const recall = new Recall();
  recall.note(
    { domid: 0, vcpu: 2 },
    [{ op: 'populate_physmap', domid: 3, order: 9, memFlags: 1 << 16, extents: { start: 0x200, count: 2 } }],
    [{ rc: 2 }],
    10,
  );
  recall.note(
    { domid: 3, vcpu: 0 },
    [{ op: 'decrease_reservation', domid: DOMID_SELF, order: 0, extents: { frames: [0x7, 0x3ff] } }],
    [{ rc: 2 }],
    20,
  );
  expect(recall.of(3, 0x3ff, 5)).toEqual([
    { tsUs: 20, caller: 3, vcpu: 0, op: 'decrease_reservation', rc: 2, order: 0, note: 'given up' },
    { tsUs: 10, caller: 0, vcpu: 2, op: 'populate_physmap', rc: 2, order: 9, note: 'populate on demand' },
  ]);
  expect(recall.of(3, 0x600, 5)).toEqual([]);
  expect(recall.of(4, 0x3ff, 5)).toEqual([]);
});

test('it forgets the oldest, and stays within bounds however long the lists are', () => {
  const recall = new Recall();
  const frames = new Float64Array(65_536).fill(9);
  for (let i = 0; i < 40; i++) {
    recall.note(
      { domid: 1, vcpu: 0 },
      [{ op: 'decrease_reservation', domid: 1, order: 0, extents: { frames } }],
      [{ rc: 0 }],
      i,
    );
  }
  expect(recall.of(1, 9, 100).length).toBeLessThanOrEqual(16);
  expect(recall.of(1, 9, 100)[0]?.tsUs).toBe(39);
});
