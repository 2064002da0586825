import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { RunDirectory } from './run-directory.ts';
import type { RunResult } from './verdict.ts';

let root: string;
const now = new Date('2026-11-20T08:45:12.123Z');

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'runs-'));
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

const read = (run: RunDirectory, name: string): string => readFileSync(join(run.path, name), 'utf8');

const result: RunResult = {
  scenario: 'pod-gpu-dma',
  question: 'Does it break?',
  startedAt: now.toISOString(),
  host: { name: 'haswell', facts: { RAM: '16 GiB' } },
  verdict: 'fail',
  twins: [],
  durationMs: 12,
};

describe('a run directory', () => {
  test('runs that begin in the same millisecond get directories of their own, and latest names one of them', async () => {
    const runs = await Promise.all([1, 2, 3, 4].map(() => RunDirectory.create(root, 'pod-gpu-dma', now)));
    expect(new Set(runs.map((run) => run.path)).size).toBe(4);
    const latest = readlinkSync(join(root, 'pod-gpu-dma', 'latest'));
    expect(runs.map((run) => run.path)).toContain(join(root, 'pod-gpu-dma', latest));
    await runs[1]?.close();
    expect(join(root, 'pod-gpu-dma', readlinkSync(join(root, 'pod-gpu-dma', 'latest')))).toBe(runs[1]?.path);
    expect(readdirSync(join(root, 'pod-gpu-dma')).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  test('an interrupted run leaves nothing, and latest names again what it named before', async () => {
    const first = await RunDirectory.create(root, 's', now);
    await first.abandon();
    expect(readdirSync(root)).toEqual([]);
    const whole = await RunDirectory.create(root, 's', now);
    await whole.close();
    const interrupted = await RunDirectory.create(root, 's', now);
    interrupted.appendHistory({ tsUs: 1 });
    await interrupted.abandon();
    expect(join(root, 's', readlinkSync(join(root, 's', 'latest')))).toBe(whole.path);
    expect(readdirSync(join(root, 's')).sort()).toEqual([basename(whole.path), 'latest'].sort());
  });

  test('an interrupted run does not take latest from one that came after it', async () => {
    const interrupted = await RunDirectory.create(root, 's', now);
    const later = await RunDirectory.create(root, 's', now);
    await interrupted.abandon();
    expect(join(root, 's', readlinkSync(join(root, 's', 'latest')))).toBe(later.path);
  });

  test('a scenario name cannot lead out of the runs directory', async () => {
    const run = await RunDirectory.create(root, '../../etc/x y', now);
    expect(run.path.startsWith(join(root, '-..-etc-x-y'))).toBe(true);
    expect(run.logPath('../a b').startsWith(join(run.path, 'logs'))).toBe(true);
  });

  test('every file a run leaves is there, whole', async () => {
    const run = await RunDirectory.create(root, 's', now);
    run.appendHistory({ tsUs: 1, op: 'populate_physmap' });
    await run.writeDmesg('(XEN) hello\n');
    await run.writeLockProfile({ rows: [], profilingNs: 5 });
    await run.writeMessages([{ title: 'twin', messages: [{ tsUs: 0, from: 'a', to: 'b', label: 'x', kind: 'call' }] }]);
    await run.writeTrace([{ tsUs: 0, pid: 1, tid: 0, name: 'x', cat: 'c' }], { processes: {} });
    await run.writeResult(result);
    await run.close();
    expect(readdirSync(run.path).sort()).toEqual([
      'history.ndjson',
      'lockprof.txt',
      'logs',
      'messages.mmd',
      'report.html',
      'trace.json',
      'verdict.json',
      'xl-dmesg.txt',
    ]);
    expect(JSON.parse(read(run, 'verdict.json'))).toMatchObject({ verdict: 'fail', exitCode: 1 });
    expect(JSON.parse(read(run, 'trace.json')).traceEvents[0]).toMatchObject({ name: 'x' });
    expect(read(run, 'report.html')).toContain('Does it break?');
    expect(read(run, 'history.ndjson')).toBe('{"tsUs":1,"op":"populate_physmap"}\n');
  });

  test('history keeps its order over many batches, and says what its cap left out', async () => {
    const run = await RunDirectory.create(root, 's', now, { historyBytes: 200_000 });
    for (let i = 0; i < 20_000; i++) run.appendHistory({ i });
    await run.close();
    const lines = read(run, 'history.ndjson').trimEnd().split('\n');
    const note = JSON.parse(lines.pop() ?? '');
    expect(lines.map((line) => JSON.parse(line).i)).toEqual(lines.map((_, i) => i));
    expect(note.dropped).toBe(20_000 - lines.length);
    expect(note.note).toContain('history is capped at 200000 bytes');
  });

  test('a record that could not be written is reported by close, and the run still ends', async () => {
    const run = await RunDirectory.create(root, 's', now);
    mkdirSync(join(run.path, 'history.ndjson'));
    run.appendHistory({ i: 1 });
    await expect(run.close()).rejects.toThrow('EISDIR');
    expect(readdirSync(run.path)).not.toContain('.running');
  });
});

describe('prune', () => {
  const oldRun = (stamp: string, pid?: number): string => {
    const path = join(root, 's', stamp);
    mkdirSync(path, { recursive: true });
    if (pid !== undefined) writeFileSync(join(path, '.running'), `${pid}\n`);
    return path;
  };

  test('the newest runs stay, and so do those still running, the latest and whatever is not a run', async () => {
    const removable = oldRun('20260101T000000.000Z-p1');
    oldRun('20260102T000000.000Z-p2', process.pid);
    oldRun('20260103T000000.000Z-p3');
    oldRun('notes');
    oldRun('20260104T000000.000Z-p4');
    oldRun('20260105T000000.000Z-p5-2');
    symlinkSync('20260103T000000.000Z-p3', join(root, 's', 'latest'));
    expect(await RunDirectory.prune(root, 2)).toEqual([removable]);
    expect(readdirSync(join(root, 's')).sort()).toEqual([
      '20260102T000000.000Z-p2',
      '20260103T000000.000Z-p3',
      '20260104T000000.000Z-p4',
      '20260105T000000.000Z-p5-2',
      'latest',
      'notes',
    ]);
  });

  test('without any run there is nothing to do', async () => {
    expect(await RunDirectory.prune(join(root, 'none'), 3)).toEqual([]);
  });
});
