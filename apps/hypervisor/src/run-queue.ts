// Which vCPU runs on which pCPU, and when. One multicall per vCPU at a time, FIFO among vCPUs; whoever yields goes to the tail; a
// blocked vCPU keeps no pCPU; a paused domain's vCPUs are held. Wake-ups are batched: everything that became runnable in one turn
// of the event loop goes out as one message per pCPU. It decides nothing about a call.
//
//   submit → runnable ──→ pCPU ─ done ──→ the caller's promise
//              ↑  ↑  ↖─ continue ┘ │ └─ held ─→ held ─ recheck ─┐
//              │  └─────────────── │ ───────────────────────────┘
//              └─ device done, page lent ── blocked

import type { Answer, Call } from '#model/hypercall/calls';
import type { BlockedOn, ContinuationState } from '#model/hypercall/continuation';
import type { WorkItem, WorkResult } from './pcpu/work.ts';

export interface VcpuId {
  readonly domid: number;
  readonly incarnation: number;
  readonly vcpu: number;
}

/** May a vCPU of that domain run now? */
export type Gate = (vcpu: VcpuId) => 'run' | 'hold' | 'gone';

export interface PcpuPort {
  send(items: readonly WorkItem[]): void;
}

export interface RunQueueOptions {
  readonly ports: readonly PcpuPort[];
  readonly gate: Gate;
  /** Runs `flush` once, later in this turn of the event loop. */
  readonly later: (flush: () => void) => void;
  /** Tells the pCPUs how many vCPUs wait for one, and how many of them are idle. */
  readonly publishLoad: (waiting: number, idle: number) => void;
  /** Events of lent memory that concern a domain, counted (as its blocked calls have seen them). */
  readonly lendEvents: (domid: number) => number;
  /** News of a shared GPU, counted (as the calls that wait for them have seen them). */
  readonly gpuNews: (gpu: number) => number;
  /** A vCPU ran for so long. */
  readonly account: (vcpu: VcpuId, us: number) => void;
}

/** The domain ended, or crashed, before the call was answered. */
export class DomainGone extends Error {
  override readonly name = 'DomainGone';
  constructor({ domid, incarnation }: VcpuId) {
    super(`domain ${domid} (incarnation ${incarnation}) does not run any more`);
  }
}

interface Multicall {
  readonly id: number;
  readonly who: VcpuId;
  readonly calls: readonly Call[];
  readonly answers: Answer[];
  readonly resolve: (answers: readonly Answer[]) => void;
  readonly reject: (error: Error) => void;
  state: ContinuationState | null;
  where: 'runnable' | 'running' | 'held' | 'blocked';
  on: BlockedOn | null;
}

/** Items that one pCPU is handed at a time. */
const BATCH_MAX = 8;

export class RunQueue {
  private readonly options: RunQueueOptions;
  private readonly all = new Map<number, Multicall>();
  private runnable: Multicall[] = [];
  /** Items that each pCPU has. */
  private readonly load: number[];
  /** Highest finished job per device: a completion may be heard before the call that waits for it. */
  private readonly jobsDone = new Map<number, number>();
  private nextId = 1;
  private scheduled = false;
  /** Microseconds that each pCPU was busy. */
  readonly pcpuUs: number[];

  constructor(options: RunQueueOptions) {
    this.options = options;
    this.load = options.ports.map(() => 0);
    this.pcpuUs = options.ports.map(() => 0);
  }

  /** Answers in order, one each. Rejects with DomainGone. */
  submit(who: VcpuId, calls: readonly Call[]): Promise<readonly Answer[]> {
    return new Promise((resolve, reject) => {
      const id = this.nextId++;
      const call: Multicall = {
        id,
        who,
        calls,
        answers: [],
        resolve,
        reject,
        state: null,
        where: 'runnable',
        on: null,
      };
      this.all.set(id, call);
      this.makeRunnable(call);
    });
  }

  /** What a pCPU handed back. */
  finished(pcpu: number, results: readonly WorkResult[]): void {
    for (const result of results) {
      const call = this.all.get(result.id);
      if (call?.where !== 'running') throw new Error(`pCPU ${pcpu} handed back item ${result.id}, unasked`);
      this.load[pcpu] = (this.load[pcpu] as number) - 1;
      this.pcpuUs[pcpu] = (this.pcpuUs[pcpu] as number) + result.us;
      this.options.account(call.who, result.us);
      for (const answer of result.answers) call.answers.push(answer);
      this.settle(call, result);
    }
    this.retryNews();
    this.wake();
  }

  /** A device finished a job: whoever waits for it, or for an earlier one, can go on. */
  deviceDone(sbdf: number, job: number): void {
    if (job > (this.jobsDone.get(sbdf) ?? 0)) this.jobsDone.set(sbdf, job);
    for (const call of this.all.values()) {
      const { on, where } = call;
      if (where === 'blocked' && on?.on === 'device' && on.sbdf === sbdf && on.job <= job) this.makeRunnable(call);
    }
  }

  /**
   * A call that just ended may have lent a page, or met one that is not there, or asked a GPU's mediator, or answered for it; or
   * a GPU's job has ended: whoever waits for such news looks again.
   */
  retryNews(): void {
    for (const call of this.all.values()) {
      const { on, where } = call;
      if (where !== 'blocked' || on === null) continue;
      const lent = on.on === 'lend' && this.options.lendEvents(on.domid) !== on.seen;
      const gpu = on.on === 'gpu' && this.options.gpuNews(on.gpu) !== on.seen;
      if (lent || gpu) this.makeRunnable(call);
    }
  }

  /** Whoever waits for a device looks again: it may have been reset, or given to another domain. */
  retryBlocked(): void {
    for (const call of this.all.values()) if (call.where === 'blocked') this.makeRunnable(call);
  }

  /** Domains may have been unpaused, or ended: looks at every vCPU that waits for that. */
  recheck(): void {
    for (const call of this.all.values()) {
      if (call.where === 'running') continue;
      const gate = this.options.gate(call.who);
      if (gate === 'gone') this.fail(call);
      else if (gate === 'run' && call.where === 'held') this.makeRunnable(call);
    }
  }

  get outstanding(): number {
    return this.all.size;
  }

  private settle(call: Multicall, result: WorkResult): void {
    switch (result.end) {
      case 'done':
        this.all.delete(call.id);
        call.resolve(call.answers);
        return;
      case 'gone':
        this.fail(call);
        return;
      case 'continue':
        call.state = result.state;
        this.makeRunnable(call);
        return;
      case 'held':
        call.state = result.state;
        this.hold(call);
        return;
      case 'blocked':
        call.state = result.state;
        this.block(call, result.on);
        return;
      default:
        result satisfies never;
    }
  }

  private hold(call: Multicall): void {
    call.where = 'held';
    // It may have been unpaused since the pCPU looked.
    if (this.options.gate(call.who) !== 'hold') this.makeRunnable(call);
  }

  private block(call: Multicall, on: BlockedOn): void {
    if (on.on === 'unpause') {
      this.hold(call);
      return;
    }
    call.on = on;
    call.where = 'blocked';
    // Of lent memory or a GPU there may be news since the pCPU looked: `finished` sees to that.
    if (on.on === 'lend' || on.on === 'gpu') return;
    if ((this.jobsDone.get(on.sbdf) ?? 0) >= on.job) this.makeRunnable(call);
  }

  private fail(call: Multicall): void {
    this.all.delete(call.id);
    const at = call.where === 'runnable' ? this.runnable.indexOf(call) : -1;
    if (at >= 0) this.runnable.splice(at, 1);
    call.reject(new DomainGone(call.who));
  }

  private makeRunnable(call: Multicall): void {
    call.where = 'runnable';
    call.on = null;
    this.runnable.push(call);
    this.wake();
  }

  private wake(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    this.options.later(() => {
      this.scheduled = false;
      this.dispatch();
    });
  }

  /** Hands what is runnable to the idle pCPUs, spread evenly. */
  private dispatch(): void {
    this.dropUnfit();
    const { ports } = this.options;
    const idle = ports.map((_, port) => port).filter((port) => this.load[port] === 0);
    const each = Math.min(BATCH_MAX, Math.ceil(this.runnable.length / Math.max(1, idle.length)));
    let given = 0;
    let stillIdle = idle.length;
    const batches: [number, Multicall[]][] = [];
    for (const port of idle) {
      const batch = this.runnable.slice(given, given + each);
      if (batch.length === 0) break;
      given += batch.length;
      stillIdle--;
      batches.push([port, batch]);
    }
    this.runnable = this.runnable.slice(given);
    this.options.publishLoad(this.runnable.length, stillIdle);
    for (const [port, batch] of batches) this.hand(port, batch);
  }

  private dropUnfit(): void {
    for (const call of [...this.runnable]) {
      const gate = this.options.gate(call.who);
      if (gate === 'run') continue;
      if (gate === 'gone') this.fail(call);
      else {
        call.where = 'held';
        this.runnable.splice(this.runnable.indexOf(call), 1);
      }
    }
  }

  private hand(port: number, batch: readonly Multicall[]): void {
    this.load[port] = batch.length;
    for (const call of batch) call.where = 'running';
    (this.options.ports[port] as PcpuPort).send(
      batch.map(({ id, who, calls, answers, state }) => ({
        id,
        domid: who.domid,
        incarnation: who.incarnation,
        vcpu: who.vcpu,
        calls: answers.length === 0 ? calls : calls.slice(answers.length),
        state,
      })),
    );
  }
}
