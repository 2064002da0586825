import { expect, test } from 'vitest';
import { LockLog, lockEvent } from '#model/shared-memory/lock-log';
import { LANE_COLUMN_BYTES, laneByte } from '#wire/live';
import { LaneReader } from './lanes.ts';

const P2M = 4;

/** Two CPUs whose clock the test sets. */
function bed() {
  const buffer = new SharedArrayBuffer(LockLog.bytes(2));
  let now = 0;
  const logs = [0, 1].map((cpu) => new LockLog(buffer, 2, cpu, () => now));
  logs[0]?.switch(true);
  const names = {
    cpus: ['CPU 0', 'CPU 1'],
    lock: () => 'p2m(d3)',
    run: (domid: number) => ({ domid, call: `call${domid}` }),
  };
  const reader = new LaneReader(logs[0] as LockLog, names, 0);
  const note = (us: number, cpu: number, kind: number, number: number): void => {
    now = us;
    logs[cpu]?.note(kind, number);
  };
  return { reader, note };
}

test('a wait names its lock, who waited in which call, and who held it in which', () => {
  const { reader, note } = bed();
  note(100, 0, lockEvent.run, 3);
  note(200, 0, lockEvent.taken, P2M);
  note(300, 1, lockEvent.run, 5);
  note(1200, 1, lockEvent.wait, P2M);
  note(4200, 0, lockEvent.freed, P2M);
  note(4300, 1, lockEvent.taken, P2M);
  note(4400, 1, lockEvent.freed, P2M);
  note(4500, 1, lockEvent.idle, 0);
  const { head, bytes } = reader.read(6000);
  expect(head.waits).toEqual([
    {
      tsUs: 1200,
      us: 3100,
      lock: 'p2m(d3)',
      cpu: 1,
      call: 'call5',
      domid: 5,
      holderCpu: 0,
      holderCall: 'call3',
      holderDomid: 3,
    },
  ]);
  const [times] = head.times;
  expect(times?.holds.n).toBe(2);
  expect(times?.holds.max).toBe(4000);
  expect(times?.waits.max).toBe(3100);
  const at = (cpu: number, column: number, byte: number): number | undefined =>
    bytes[(cpu * head.columns + column) * LANE_COLUMN_BYTES + byte];
  expect(head.columns).toBe(6);
  expect([at(0, 2, laneByte.hold), at(0, 2, laneByte.run)]).toEqual([255, 0]);
  expect([at(1, 2, laneByte.wait), at(1, 2, laneByte.waitedLock)]).toEqual([255, 1]);
  expect(at(1, 5, laneByte.wait)).toBe(0);
  expect(at(0, 5, laneByte.run)).toBe(255);
});

test('a lock that is held on is drawn in the next look too, and nothing is told twice', () => {
  const { reader, note } = bed();
  note(500, 0, lockEvent.run, 1);
  note(1000, 0, lockEvent.taken, P2M);
  reader.read(2000);
  const { head, bytes } = reader.read(5000);
  expect(head.fromUs).toBe(2000);
  expect([...bytes].filter((_, i) => i % LANE_COLUMN_BYTES === laneByte.hold).slice(0, head.columns)).toEqual([
    255, 255, 255,
  ]);
  expect(head.waits).toEqual([]);
});

test('after events that were lost nobody is said to hold anything', () => {
  const { reader, note } = bed();
  note(1, 0, lockEvent.run, 1);
  note(2, 0, lockEvent.taken, P2M);
  reader.poll();
  for (let i = 0; i < 100_000; i++) note(3, 0, lockEvent.taken, 9);
  note(5000, 1, lockEvent.wait, P2M);
  note(6000, 1, lockEvent.taken, P2M);
  const { head } = reader.read(7000);
  expect(head.missed).toBeGreaterThan(0);
  expect(head.waits.map(({ holderCpu }) => holderCpu)).toEqual([-1]);
});
