// One pCPU: takes work items, runs their calls through the dispatcher slice by slice, hands results back. Owns when a call must
// yield and who goes next on this pCPU; what a call does is the model's. It does no I/O but the one port to the main thread.
//
//   inbox → local queue → slice: call, call, … ─ done / blocked ─→ results (posted once per round)
//                ↑────────── continuation ────┘  └ somebody else waits for a pCPU: back to the main thread's queue

import type { Domain } from '#model/domain/domain';
import { domainRecord } from '#model/domain/domain-record';
import type { Host } from '#model/host';
import type { Answer, Call } from '#model/hypercall/calls';
import type { Caller, ContinuationState } from '#model/hypercall/continuation';
import { runCall } from '#model/hypercall/dispatch';
import { runQueuedFrees } from '#model/iommu/iommu';
import { lockEvent } from '#model/shared-memory/lock-log';
import { runNumber } from '../live/run-number.ts';
import type { SharedWords } from '../shared-words.ts';
import { nowUs, type ReportBuffer } from '../thread-setup.ts';
import {
  type FromPcpu,
  packResults,
  type Span,
  type ToPcpu,
  unpackItems,
  type WorkEnd,
  type WorkItem,
  type WorkResult,
} from './work.ts';

/** Xen's tick, scaled to calls of microseconds: a call that runs longer lets others in. */
const SLICE_MS = 1;
/** A clock read costs as much as a page operation: look at it once in so many checks. */
const CLOCK_EVERY = 16;
/** A result waits for others of its round at most this long. */
const ROUND_MS = 0.3;

/** The thread's end of its port. */
export interface PcpuInbox {
  receive(): ToPcpu | null;
  post(message: FromPcpu): void;
}

/** An item on this pCPU: what was answered here so far, and where its first unanswered call goes on. */
interface Work {
  readonly item: WorkItem;
  readonly answers: Answer[];
  state: ContinuationState | null;
  us: number;
}

/** What the dispatcher asks of the vCPU that runs. */
class RunningVcpu implements Caller {
  domain: Domain;
  vcpu = 0;
  private readonly words: SharedWords;
  private readonly cpu: number;
  private checks = 0;
  private sliceEnd = 0;

  constructor(words: SharedWords, host: Host) {
    this.words = words;
    this.cpu = host.cpu;
    this.domain = host.slot(0);
  }

  start(domain: Domain, vcpu: number): void {
    this.domain = domain;
    this.vcpu = vcpu;
    this.renew();
  }

  renew(): void {
    this.sliceEnd = performance.now() + SLICE_MS;
  }

  get sliceOver(): boolean {
    return performance.now() > this.sliceEnd;
  }

  preempt(): boolean {
    if (this.words.wantsPcpu(this.cpu)) return true;
    return ++this.checks % CLOCK_EVERY === 0 && this.sliceOver;
  }
}

export class PcpuLoop {
  private readonly host: Host;
  private readonly words: SharedWords;
  private readonly inbox: PcpuInbox;
  private readonly reports: ReportBuffer;
  private readonly record: boolean;
  private readonly running: RunningVcpu;
  private readonly queue: Work[] = [];
  private results: WorkResult[] = [];
  private spans: Span[] = [];
  private roundStart = 0;

  constructor(host: Host, words: SharedWords, inbox: PcpuInbox, reports: ReportBuffer, record: boolean) {
    this.host = host;
    this.words = words;
    this.inbox = inbox;
    this.reports = reports;
    this.record = record;
    this.running = new RunningVcpu(words, host);
  }

  /** Until the process stops. Throws HostPanic when the host is dead. */
  run(): void {
    while (!this.words.stopped) if (!this.round()) this.sleep();
    this.flush();
  }

  /** One turn: at most one slice of one item. False when there was nothing to do. */
  round(): boolean {
    this.host.panicCell.check();
    this.receive();
    if (this.words.parkRequested) {
      this.flush();
      this.words.park(this.host.cpu);
      return true;
    }
    const work = this.queue.shift();
    if (!work) return false;
    if (this.results.length === 0) this.roundStart = performance.now();
    this.slice(work);
    runQueuedFrees(this.host);
    this.rebalance();
    if (this.queue.length === 0 || performance.now() - this.roundStart > ROUND_MS) this.flush();
    return true;
  }

  private sleep(): void {
    const seen = this.words.doorbell(this.host.cpu);
    runQueuedFrees(this.host);
    this.flush();
    // What arrived before the doorbell was read is in the port; what arrives later changes the doorbell.
    if (this.receive() || this.words.parkRequested || this.words.stopped) return;
    this.words.waitDoorbell(this.host.cpu, seen);
  }

  private receive(): boolean {
    this.words.clearArrived(this.host.cpu);
    let any = false;
    for (let message = this.inbox.receive(); message; message = this.inbox.receive()) {
      for (const item of unpackItems(message)) this.queue.push({ item, answers: [], state: item.state, us: 0 });
      any = true;
    }
    return any;
  }

  /** Posts what this round produced. */
  flush(): void {
    if (this.results.length === 0 && this.spans.length === 0 && this.reports.empty) return;
    this.inbox.post({
      ...(this.results.length ? { results: packResults(this.results) } : {}),
      ...(this.spans.length ? { spans: this.spans } : {}),
      ...this.reports.take(),
    });
    this.results = [];
    this.spans = [];
  }

  /** Others have nothing to do while items queue up behind a long one here: give them back. */
  private rebalance(): void {
    if (this.queue.length < 2 || this.words.idle === 0) return;
    for (const { item, answers, us, state } of this.queue.splice(1)) {
      this.results.push({ id: item.id, answers, us, end: 'continue', state });
    }
  }

  private slice(work: Work): void {
    const started = performance.now();
    const before = work.answers.length;
    const { log } = this.host.lockTable;
    if (log?.on) log.note(lockEvent.run, runNumber(work.item.calls[before]?.op, work.item.domid));
    const end = this.runCalls(work);
    if (log?.on) log.note(lockEvent.idle, 0);
    const us = (performance.now() - started) * 1000;
    work.us += us;
    if (this.record) this.span(work, before, us);
    // Nobody waits elsewhere: it goes on here, behind what else this pCPU has.
    if (end.end === 'continue' && this.words.waiting === 0) this.queue.push(work);
    else this.results.push({ id: work.item.id, answers: work.answers, us: work.us, ...end });
  }

  private runCalls(work: Work): WorkEnd {
    const { host, running } = this;
    const { item, answers } = work;
    const d = host.domain(item.domid);
    if (!d || d.r.incarnation !== item.incarnation) return { end: 'gone' };
    running.start(d, item.vcpu);
    const first = answers.length;
    while (answers.length < item.calls.length) {
      if (d.dying || d.crashed) return { end: 'gone' };
      if (Atomics.load(d.r.words, domainRecord.at.pauseCount) > 0) return { end: 'held', state: work.state };
      if (answers.length > first && this.mustYield()) return { end: 'continue', state: work.state };
      const stop = this.runOne(item.calls[answers.length] as Call, work); // in range by the loop's test
      if (stop) return stop;
    }
    return { end: 'done' };
  }

  /** One call up to its end (null), or to where somebody else should have the pCPU. */
  private runOne(call: Call, work: Work): WorkEnd | null {
    for (;;) {
      const outcome = runCall(this.host, this.running, call, work.state);
      if (outcome.end === 'done') {
        work.state = null;
        work.answers.push(outcome.answer);
        return null;
      }
      work.state = outcome.state;
      if (outcome.end === 'blocked') return outcome;
      if (this.reports.crowded) this.inbox.post(this.reports.take());
      if (this.mustYield()) return { end: 'continue', state: work.state };
      // Its slice is over and nobody wants the pCPU: the continuation re-enters at once.
      this.running.renew();
    }
  }

  /** Somebody else wants this pCPU, here or in the main thread's queue, or everybody is to park. */
  private mustYield(): boolean {
    if (this.words.wantsPcpu(this.host.cpu) || this.words.stopped) return true;
    return (this.queue.length > 0 || this.words.waiting > 0) && this.running.sliceOver;
  }

  private span(work: Work, before: number, us: number): void {
    const { item, answers } = work;
    this.spans.push({
      tsUs: nowUs() - us,
      durUs: us,
      domid: item.domid,
      vcpu: item.vcpu,
      pcpu: this.host.cpu,
      op: item.calls[before]?.op ?? 'none',
      calls: answers.length - before,
      rc: answers[answers.length - 1]?.rc ?? 0,
    });
  }
}
