import { expect, test } from 'vitest';
import { type Chapter, type MessageRecord, sequenceDiagram } from './mermaid.ts';

/** A run of one chapter. */
const run = (messages: readonly MessageRecord[]): Chapter[] => [{ title: 'the run', messages }];

const message = (tsUs: number, label: string, over: Partial<MessageRecord> = {}): MessageRecord => ({
  tsUs,
  from: 'd1v0',
  to: 'Xen',
  label,
  kind: 'call',
  ...over,
});

test('each kind of message has its arrow, and actors stand in order of appearance', () => {
  expect(
    sequenceDiagram(
      run([
        message(0, 'decrease_reservation'),
        message(1500, 'rc=0', { from: 'Xen', to: 'd1v0', kind: 'reply' }),
        message(2000, 'memory/target', { from: 'dom0', kind: 'event' }),
        message(2500.5, 'DMA write', { from: '0000:01:00.0', kind: 'fault' }),
      ]),
    ),
  ).toBe(
    [
      'sequenceDiagram',
      '  autonumber',
      '  participant a0 as d1v0',
      '  participant a1 as Xen',
      '  participant a2 as dom0',
      '  participant a3 as 0000#58;01#58;00.0',
      '  a0->>a1: 0.000 ms decrease_reservation',
      '  a1-->>a0: 1.500 ms rc=0',
      '  a2-)a1: 2.000 ms memory/target',
      '  a3-xa1: 2.501 ms DMA write',
      '',
    ].join('\n'),
  );
});

test('a long run keeps its beginning and its end, and says how much is missing between', () => {
  const text = sequenceDiagram(run(Array.from({ length: 100 }, (_, i) => message(i * 1000, `m${i}`))), { limit: 10 });
  expect(text).toContain('Note over a0,a1: 90 messages between 5.000 ms and 94.000 ms are cut here');
  expect(text).toContain(' m4\n');
  expect(text).not.toContain(' m5\n');
  expect(text).toContain(' m95\n');
  expect(text.match(/->>/g)).toHaveLength(10);
});

test("a guest's text cannot add a line or a statement to the diagram", () => {
  const text = sequenceDiagram(
    run([message(0, 'x\nend; loop %%{init}%%\u2028a->>b: <b>#quot;', { from: 'd1\nactor z' })]),
  );
  expect(text.trimEnd().split('\n')).toHaveLength(5);
  expect(text).not.toMatch(/<b>|[^0-9];|%%\{/);
  expect(text).toContain('x end#59; loop #37;#37;#123;init#125;');
});

test('what led to a fault in the middle of a long run is drawn, and the rest of the middle is not', () => {
  const messages = Array.from({ length: 100 }, (_, i) => message(i * 1000, `m${i}`, i === 50 ? { kind: 'fault' } : {}));
  const text = sequenceDiagram(run(messages), { limit: 12 });
  for (const i of [0, 2, 47, 50, 97, 99]) expect(text).toContain(` m${i}\n`);
  for (const i of [3, 46, 51, 96]) expect(text).not.toContain(` m${i}\n`);
  expect(text.match(/are cut here/g)).toHaveLength(2);
});

test('each twin of a run has its heading and its share of the room', () => {
  const messages = Array.from({ length: 50 }, (_, i) => message(i, `m${i}`));
  const text = sequenceDiagram(
    [
      { title: 'buggy', messages },
      { title: 'fixed', messages },
    ],
    { limit: 20 },
  );
  expect(text.match(/->>/g)).toHaveLength(20);
  expect(text).toMatch(/Note over a0,a1: buggy[\s\S]*Note over a0,a1: fixed/);
});

test('a run without messages is still a diagram', () => {
  expect(sequenceDiagram([])).toBe('sequenceDiagram\n  autonumber\n  participant a0 as no message was recorded\n');
});
