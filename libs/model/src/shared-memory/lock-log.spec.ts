import { expect, test } from 'vitest';
import { LockLog, lockEvent } from './lock-log.ts';

function make(): { own: LockLog; reader: LockLog } {
  const buffer = new SharedArrayBuffer(LockLog.bytes(2));
  let now = 0;
  return { own: new LockLog(buffer, 2, 1, () => ++now), reader: new LockLog(buffer, 2, 0, () => 0) };
}

test('while nobody looks nothing is noted; then every event comes once, in order', () => {
  const { own, reader } = make();
  own.note(lockEvent.taken, 5);
  expect(reader.position(1)).toBe(0);
  reader.switch(true);
  own.note(lockEvent.taken, 7);
  own.note(lockEvent.freed, 2 ** 47 + 1);
  const seen: number[][] = [];
  expect(reader.read(1, 0, (...event) => seen.push(event))).toBe(0);
  expect(seen).toEqual([
    [1, lockEvent.taken, 7],
    [2, lockEvent.freed, 2 ** 47 + 1],
  ]);
  expect(reader.read(1, reader.position(1), () => expect.unreachable())).toBe(0);
  expect(reader.position(0)).toBe(0);
});

test('a reader that comes too late is told how many it missed, and gets the newest', () => {
  const { own, reader } = make();
  reader.switch(true);
  for (let i = 0; i < 100_000; i++) own.note(lockEvent.run, i);
  let last = -1;
  let read = 0;
  const missed = reader.read(1, 0, (_, __, number) => {
    last = number;
    read++;
  });
  expect(last).toBe(99_999);
  expect(missed + read).toBe(100_000);
  expect(missed).toBeGreaterThan(0);
});
