// `hostloom replay STRING`: one schedule again, step by step, printed and written to a run directory: report.html, messages.mmd,
// trace.json. Prints and writes; the playing is libs/explore.
import { join } from 'node:path';
import type { ReplayReport, ReplayStep } from '#explore/replay';
import { parseReplay, ReplayStringError } from '#explore/replay-string';
import { runExplorer } from '#explore/session';
import type { MessageRecord } from '#formats/mermaid';
import type { TraceEvent } from '#formats/perfetto';
import { renderReplayPage } from '#report/replay-page';
import { RunDirectory } from '#report/run-directory';
import { CommandError, EXIT_OK, EXIT_USAGE } from '../exit-codes.ts';
import type { Output } from '../terminal.ts';
import { asCommandError } from './explore.ts';
import { findLitmus } from './litmus-file.ts';

/** Which part of the host a step is an access to. */
const parts: Readonly<Record<string, string>> = {
  lock: 'locks',
  tryLock: 'locks',
  unlock: 'locks',
  'goes on': 'locks',
  p2mRead: 'p2m',
  p2mWrite: 'p2m',
  ptWrite: 'p2m',
  ioWrite: 'I/O tables',
  ctxWrite: 'I/O tables',
  hwWalk: 'I/O tables',
  iotlbFlush: 'IOTLB',
  hwFlush: 'IOTLB',
  deviceTlbFlush: 'IOTLB',
  tlbFill: 'IOTLB',
  waitFor: 'IOTLB',
  cpuFlush: 'CPU TLBs',
  cpuFlushDefer: 'CPU TLBs',
  frameAlloc: 'frames',
  frameFree: 'frames',
  refTake: 'frames',
  refDrop: 'frames',
  m2pWrite: 'frames',
  scrub: 'frames',
  cacheAdd: 'frames',
  cacheGet: 'frames',
  dma: 'frames',
};
const OTHER_PART = 'Xen';

export async function replayCommand(
  text: string,
  runsDir: string,
  output: Output,
  signal: AbortSignal,
): Promise<number> {
  const report = await play(text, signal);
  output.line(`${report.title}`);
  output.line(`  variant ${report.variant}: ${report.what}`);
  const width = Math.max(...report.actors.map(({ name }) => name.length));
  for (const step of report.steps) tellStep(output, step, width);
  for (const { invariant, text: why } of report.atRest) output.line(`  at rest: ${invariant}: ${why}`);
  const broken = [...report.steps.flatMap(({ findings }) => findings), ...report.atRest];
  output.line(
    broken.length === 0
      ? 'nothing is broken in this schedule'
      : `broken: ${[...new Set(broken.map(({ invariant }) => invariant))].join(', ')}`,
  );
  const directory = await write(text, report, runsDir);
  output.line(`${join(directory, 'report.html')}, messages.mmd, trace.json`);
  output.json({ ...report, directory });
  return EXIT_OK;
}

async function play(text: string, signal: AbortSignal): Promise<ReplayReport> {
  let report: ReplayReport | null = null;
  try {
    const recorded = parseReplay(text);
    const file = findLitmus(recorded.path);
    const keep = (message: Parameters<Parameters<typeof runExplorer>[1]>[0]): void => {
      if (message.is === 'replayed') report = message.report;
    };
    await runExplorer({ ...file, job: { is: 'replay', recorded } }, keep, signal);
  } catch (error) {
    if (error instanceof ReplayStringError) throw new CommandError(error.message, error.remedy, EXIT_USAGE);
    throw asCommandError(error);
  }
  if (report === null) throw new Error('the replay told nothing');
  return report;
}

function tellStep(
  output: Output,
  { index, actor, text, changes, held, lines, findings }: ReplayStep,
  width: number,
): void {
  const locks = held === '{}' ? '' : `   ${held}`;
  output.line(`${String(index + 1).padStart(5)}  ${actor.padEnd(width)}  ${text}${locks}`);
  const indent = ' '.repeat(width + 11);
  for (const change of changes) output.line(`${indent}${change}`);
  for (const line of lines) output.line(`${indent}(XEN) ${line}`);
  for (const { invariant, text: why } of findings) output.line(`${indent}✗ ${invariant}: ${why}`);
}

async function write(text: string, report: ReplayReport, runsDir: string): Promise<string> {
  const { path } = parseReplay(text);
  const directory = await RunDirectory.create(runsDir, 'replay', new Date());
  await directory.writeMessages([{ title: `${path}, ${report.variant}`, messages: report.steps.flatMap(messagesOf) }], {
    counts: 'steps',
  });
  const threads = report.actors.map(({ name }, tid) => ({ pid: 0, tid, name }));
  await directory.writeTrace(
    report.steps.map((step) => traceEvent(report, step)),
    { processes: { 0: `${path}, ${report.variant}` }, threads },
  );
  const preemptions = report.steps.at(-1)?.preemptions ?? 0;
  await directory.writeReport(renderReplayPage({ ...report, path, replay: text.trim(), preemptions }));
  await directory.close();
  return directory.path;
}

function messagesOf({ index, actor, kind, text, changes, findings }: ReplayStep): MessageRecord[] {
  const label = changes.length === 0 ? text : `${text}: ${changes.join('; ')}`;
  const to = parts[kind] ?? OTHER_PART;
  const tsUs = index + 1;
  const faults = findings.map(
    ({ invariant, text: why }): MessageRecord => ({
      tsUs,
      from: actor,
      to,
      kind: 'fault',
      label: `${invariant}: ${why}`,
    }),
  );
  return [{ tsUs, from: actor, to, kind: 'call', label }, ...faults];
}

const traceEvent = (report: ReplayReport, { index, actor, text, kind, changes, held }: ReplayStep): TraceEvent => ({
  tsUs: index,
  durUs: 1,
  pid: 0,
  tid: report.actors.findIndex(({ name }) => name === actor),
  name: text,
  cat: kind,
  args: { changes: changes.join('; '), held },
});
