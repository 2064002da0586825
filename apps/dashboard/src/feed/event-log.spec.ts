import { expect, test } from 'vitest';
import { EventLog, type NewEvent } from './event-log.ts';

const line = (text: string, kind: NewEvent['kind'] = 'console'): NewEvent => ({ tsMs: 0, kind, domid: -1, text });

test('a page that comes back gets exactly what it does not have; one of another server gets all', () => {
  const log = new EventLog();
  for (let i = 1; i <= 10; i++) log.add(line(String(i)));
  expect(log.since(log.life, 7).map(({ seq }) => seq)).toEqual([8, 9, 10]);
  expect(log.since(log.life, 10)).toEqual([]);
  expect(log.since('another life', 10)).toHaveLength(10);
  expect(log.since(undefined, 0)).toHaveLength(10);
});

test('a flood of lines is cut and counted; faults in it are all there', () => {
  const log = new EventLog();
  for (let i = 0; i < 50_000; i++) log.add(line('noise'));
  for (let i = 0; i < 20; i++) log.add(line('fault', 'fault'));
  for (let i = 0; i < 5000; i++) log.add(line('noise'));
  const batch = log.takeBatch();
  expect(batch?.events.filter(({ kind }) => kind === 'fault')).toHaveLength(20);
  expect(batch?.events.length).toBeLessThanOrEqual(200);
  expect((batch?.events.length ?? 0) + (batch?.skipped ?? 0)).toBe(55_020);
  expect(batch?.events.map(({ seq }) => seq)).toEqual(
    [...(batch?.events ?? [])].map(({ seq }) => seq).sort((a, b) => a - b),
  );
  expect(log.takeBatch()).toBeNull();
  expect(log.since(undefined, 0).length).toBeLessThan(7000);
});
