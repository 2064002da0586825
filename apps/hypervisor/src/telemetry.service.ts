// What the host reports, handed on: console lines and the history of calls to the run directory, everything to the Redis streams.
// Files are appended in the background and never waited for; records of a stream that Redis does not take in time are dropped
// there and counted. It interprets nothing.
import { createWriteStream, mkdirSync, type WriteStream } from 'node:fs';
import { join } from 'node:path';
import { Inject, Injectable } from '@nestjs/common';
import type { Answer, Call } from '#model/hypercall/calls';
import type { StreamName } from '#wire/names';
import { StreamWriter } from '#wire/streams';
import { HYPERVISOR_CONFIG, type HypervisorConfig } from './config.ts';
import { ConsoleService } from './console.service.ts';
import type { DmaFault, JobSpan } from './dma/dma-messages.ts';
import { Recall } from './live/recall.ts';
import type { Reports, Span } from './pcpu/work.ts';
import { RedisService } from './redis.service.ts';
import type { VcpuId } from './run-queue.ts';
import { nowUs } from './thread-setup.ts';

/** Calls of one multicall that the history spells out. */
const HISTORY_CALLS = 16;
const HISTORY_BYTES_MAX = 64 * 2 ** 20;
/** Pictures are of now: few are kept, and none waits for company. */
const LIVE = { chunkMs: 5, chunksKept: 32 };
/** A call's arguments in the history; a scattered list of frames is cut. */
const CALL_TEXT_MAX = 400;

@Injectable()
export class TelemetryService {
  private readonly config: HypervisorConfig;
  private readonly redis: RedisService;
  private readonly console: ConsoleService;
  private readonly writers = new Map<StreamName, StreamWriter>();
  private readonly files = new Map<string, WriteStream>();
  private historyBytes = 0;
  private jobSink: (jobs: readonly JobSpan[]) => void = () => {};
  /** Who changed which gfns lately. */
  readonly recall = new Recall();
  /** Event invariants violated so far, by name. */
  readonly violations = new Map<string, number>();

  constructor(
    @Inject(HYPERVISOR_CONFIG) config: HypervisorConfig,
    @Inject(RedisService) redis: RedisService,
    @Inject(ConsoleService) console: ConsoleService,
  ) {
    this.config = config;
    this.redis = redis;
    this.console = console;
    console.onLines((lines) => this.consoleLines(lines));
  }

  /** What any thread reported. */
  take(reports: Reports): void {
    if (reports.lines) this.console.take(reports.lines);
    for (const v of reports.violations ?? []) {
      this.violations.set(v.invariant, (this.violations.get(v.invariant) ?? 0) + 1);
      this.publish('faults', JSON.stringify({ kind: 'violation', ...v }));
    }
  }

  spans(spans: readonly Span[]): void {
    for (const span of spans) this.publish('trace', JSON.stringify({ kind: 'call', ...span }));
  }

  jobs(jobs: readonly JobSpan[]): void {
    this.jobSink(jobs);
    if (!this.config.record) return;
    for (const job of jobs) this.publish('trace', JSON.stringify({ kind: 'dma', ...job }));
  }

  /** `sink` is told of every job that a device finished, while the host is recorded or looked at. */
  onJobs(sink: (jobs: readonly JobSpan[]) => void): void {
    this.jobSink = sink;
  }

  /** A look at the host, for those who watch it. */
  live(look: Uint8Array): void {
    this.publish('live', look);
  }

  faults(faults: readonly DmaFault[]): void {
    for (const fault of faults) this.publish('faults', JSON.stringify({ kind: 'dma-fault', ...fault }));
  }

  /** One finished multicall, when recording. */
  history(who: VcpuId, seq: number, calls: readonly Call[], answers: readonly Answer[]): void {
    const tsUs = Math.round(nowUs());
    this.recall.note(who, calls, answers, tsUs);
    if (!this.config.record) return;
    const told = Math.min(calls.length, HISTORY_CALLS);
    let text = '';
    for (let i = 0; i < told; i++) {
      const call = cut(calls[i]);
      text += `${JSON.stringify({ tsUs, domid: who.domid, vcpu: who.vcpu, seq, call, answer: cut(answers[i]) })}\n`;
    }
    if (told < calls.length) {
      const more = calls.length - told;
      text += `${JSON.stringify({ tsUs, domid: who.domid, vcpu: who.vcpu, seq, more, lastRc: answers.at(-1)?.rc ?? 0 })}\n`;
    }
    this.publish('history', text);
    if (this.historyBytes > HISTORY_BYTES_MAX) return;
    this.historyBytes += text.length;
    this.append(
      'history.ndjson',
      this.historyBytes > HISTORY_BYTES_MAX ? `${JSON.stringify({ tsUs, cut: true })}\n` : text,
    );
  }

  /** Everything out: files ended, streams taken by Redis or given up. */
  async close(): Promise<void> {
    this.console.drain();
    const files = [...this.files.values()].map((file) => new Promise<void>((resolve) => file.end(resolve)));
    const streams = this.redis.reachable ? [...this.writers.values()].map((writer) => writer.flush()) : [];
    await Promise.all([...files, ...streams]);
  }

  private consoleLines(lines: readonly string[]): void {
    this.append('xl-dmesg.txt', `${lines.join('\n')}\n`);
    for (const line of lines) this.publish('console', line);
  }

  private publish(name: StreamName, record: string | Uint8Array): void {
    let writer = this.writers.get(name);
    if (!writer) {
      const common = { redis: this.redis.redis, hostId: this.config.hostId, name };
      writer = new StreamWriter(name === 'live' ? { ...common, ...LIVE } : common);
      this.writers.set(name, writer);
    }
    writer.push(record);
  }

  private append(file: string, text: string): void {
    const { runDir } = this.config;
    if (runDir === null) return;
    let stream = this.files.get(file);
    if (!stream) {
      mkdirSync(runDir, { recursive: true });
      stream = createWriteStream(join(runDir, file), { flags: 'a' });
      stream.on('error', (error) => process.stderr.write(`${join(runDir, file)}: ${error.message}\n`));
      this.files.set(file, stream);
    }
    stream.write(text);
  }
}

/** A call or answer as the history shows it. */
function cut(value: Call | Answer | undefined): unknown {
  const text =
    JSON.stringify(value, (_key, v: unknown) => (ArrayBuffer.isView(v) ? `${v.byteLength} bytes` : v)) ?? 'null';
  return text.length <= CALL_TEXT_MAX ? JSON.parse(text) : { cut: text.slice(0, CALL_TEXT_MAX) };
}
