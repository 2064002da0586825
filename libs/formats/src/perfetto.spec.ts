import { describe, expect, test } from 'vitest';
import { DOMID_XEN, sbdf } from '#model/frames/addresses';
import { cpuTid, deviceTid, type TraceEvent, type TraceNames, traceChunks } from './perfetto.ts';

interface Row {
  ph: string;
  pid: number;
  tid: number;
  name: string;
  args?: Record<string, unknown>;
  [key: string]: unknown;
}

async function render(events: Iterable<TraceEvent>, names: TraceNames = { processes: {} }) {
  const chunks: string[] = [];
  for await (const chunk of traceChunks(events, names)) chunks.push(chunk);
  // the shape that encodeEvent writes
  return { chunks, trace: JSON.parse(chunks.join('')) as { traceEvents: Row[]; otherData: { dropped: string } } };
}

const gpu = sbdf(0, 1, 0, 0);

describe('trace-event JSON', () => {
  test('spans, instants, counters and asynchronous pairs take their phase letters', async () => {
    const at = { pid: 1, tid: cpuTid(0), cat: 'hypercall' };
    const { trace } = await render([
      { ...at, tsUs: 1.5, durUs: 20, name: 'populate_physmap', args: { order: 9 } },
      { ...at, tsUs: 30, name: 'crash' },
      { ...at, kind: 'counter', tsUs: 31, name: 'PoD', args: { entries: 5, cache: 3 } },
      { ...at, kind: 'begin', tsUs: 32, name: 'call', id: 'e1-s7' },
      { ...at, kind: 'end', tsUs: 40, name: 'call', id: 'e1-s7' },
    ]);
    expect(trace.traceEvents.filter((row) => row.ph !== 'M')).toEqual([
      { ph: 'X', ts: 1.5, dur: 20, pid: 1, tid: 0, name: 'populate_physmap', cat: 'hypercall', args: { order: 9 } },
      { ph: 'i', s: 't', ts: 30, pid: 1, tid: 0, name: 'crash', cat: 'hypercall' },
      { ph: 'C', ts: 31, pid: 1, tid: 0, name: 'PoD', cat: 'hypercall', args: { entries: 5, cache: 3 } },
      { ph: 'b', ts: 32, id: 'e1-s7', pid: 1, tid: 0, name: 'call', cat: 'hypercall' },
      { ph: 'e', ts: 40, id: 'e1-s7', pid: 1, tid: 0, name: 'call', cat: 'hypercall' },
    ]);
  });

  test('domains, vCPUs, devices and pCPUs are named, by the names given or by their numbers', async () => {
    const { trace } = await render(
      [
        { tsUs: 0, pid: DOMID_XEN, tid: cpuTid(3), name: 'x', cat: 'c' },
        { tsUs: 0, pid: 2, tid: deviceTid(gpu), name: 'x', cat: 'c' },
        { tsUs: 0, pid: 2, tid: cpuTid(1), name: 'x', cat: 'c' },
        { tsUs: 0, pid: 0, tid: 7, name: 'x', cat: 'c' },
      ],
      { processes: { 2: 'win7' }, threads: [{ pid: 0, tid: 7, name: 'toolstack' }] },
    );
    const named = trace.traceEvents
      .filter((row) => row.name.endsWith('_name'))
      .map((row) => [row.name, row.pid, row.args?.name]);
    expect(named).toEqual([
      ['process_name', 0x7ff2, 'Xen'],
      ['thread_name', 0x7ff2, 'pCPU 3'],
      ['process_name', 2, 'win7'],
      ['thread_name', 2, 'device 0000:01:00.0'],
      ['thread_name', 2, 'd2v1'],
      ['process_name', 0, 'Domain-0'],
      ['thread_name', 0, 'toolstack'],
    ]);
  });

  test('a hostile name stays a string of the JSON', async () => {
    const name = '"}],\n\u0000\u2028<script>';
    const { trace } = await render([{ tsUs: 0, pid: 1, tid: 0, name, cat: 'c' }], { processes: { 1: name } });
    expect(trace.traceEvents[0]?.name).toBe(name);
  });

  test('a long trace comes in chunks, and an empty one is valid too', async () => {
    const many = Array.from({ length: 20_000 }, (_, i) => ({ tsUs: i, pid: 1, tid: 0, name: 'tick', cat: 'c' }));
    const { chunks, trace } = await render(many, { processes: {}, dropped: 12 });
    expect(chunks.length).toBeGreaterThan(10);
    expect(Math.max(...chunks.map((chunk) => chunk.length))).toBeLessThan(70_000);
    expect(trace.traceEvents.filter((row) => row.ph === 'i')).toHaveLength(20_000);
    expect(trace.otherData.dropped).toBe('12');
    expect((await render([])).trace.traceEvents).toEqual([]);
  });
});
