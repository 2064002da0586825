// What the author of a litmus test works with: hypercalls of a domain, DMA of a device, and a few ways to get a start. All of it
// is the model's own code; this file only calls it, resumes continuations, and says what an actor found to be wrong.
import type { Domain } from '#model/domain/domain';
import { formatSbdf, type Mfn, type Sbdf } from '#model/frames/addresses';
import type { Host } from '#model/host';
import type { AnswerOf, Call, CallOf, OpName } from '#model/hypercall/calls';
import { type ContinuationState, runCall } from '#model/hypercall/dispatch';
import { DmaThread } from '#model/iommu/dma';
import { runQueuedFrees } from '#model/iommu/iommu';
import { faultReason } from '#model/iommu/vtd/fault-text';
import { step, stepKind } from '#model/shared-memory/step';
import type { Steps } from './paper/steps.ts';

/** Slices of one call at most: a call that is still not done does not end. */
const SLICES_MAX = 100_000;

/** An answer of which a test did not think. */
export class UnexpectedAnswer extends Error {
  override readonly name = 'UnexpectedAnswer';
}

/** What a world has beside its host. */
export interface Beside {
  /** Values of the test's arguments in this combination. */
  readonly args: Readonly<Record<string, number>>;
  /** Of a step program. */
  readonly steps: Steps | null;
}

const NOTHING_BESIDE: Beside = { args: {}, steps: null };

export class World {
  /** The host, as this actor's CPU sees it. */
  readonly host: Host;
  private readonly dmaThread: number;
  private readonly observe: (text: string) => void;
  private readonly beside: Beside;
  private engine: DmaThread;
  private transactions = 0;

  /** `dmaThread`: of a piece of hardware, else -1. `observe` is told what each operation was answered. */
  constructor(
    host: Host,
    dmaThread: number,
    observe: (text: string) => void = () => {},
    beside: Beside = NOTHING_BESIDE,
  ) {
    this.host = host;
    this.beside = beside;
    this.observe = observe;
    this.dmaThread = dmaThread;
    this.engine = new DmaThread(host, Math.max(0, dmaThread));
  }

  /** As at the beginning of a schedule. */
  begin(): void {
    this.engine = new DmaThread(this.host, Math.max(0, this.dmaThread));
    this.transactions = 0;
    this.beside.steps?.locks.begin();
  }

  /** What this combination gives to one of the test's `arguments`. */
  arg(name: string): number {
    const value = this.beside.args[name];
    if (value === undefined) throw new UnexpectedAnswer(`the test has no argument '${name}'`);
    return value;
  }

  /** The paper host of a step program. */
  get steps(): Steps {
    const { steps } = this.beside;
    if (steps === null) throw new UnexpectedAnswer('the test is no step program');
    return steps;
  }

  /** The domain of that number; it must exist. */
  domain(domid: number): Domain {
    const d = this.host.domain(domid);
    if (!d) throw new UnexpectedAnswer(`there is no domain ${domid}`);
    return d;
  }

  /**
   * A hypercall (or a guest's load and store) of a domain, to its end. Every continuation is a point where others may run. The
   * hypercall ends where the domain is paused or dead.
   */
  call<N extends OpName>(from: number, call: CallOf<N> & { readonly op: N }): AnswerOf<N> {
    const domain = this.domain(from);
    const caller = { domain, vcpu: 0, preempt: () => this.preempt };
    let state: ContinuationState | null = null;
    for (let slice = 0; slice < SLICES_MAX; slice++) {
      const outcome = runCall(this.host, caller, call as Call, state); // a CallOf<N> is a Call
      runQueuedFrees(this.host);
      if (outcome.end === 'done') {
        this.observe(`${call.op} → ${JSON.stringify(outcome.answer)}`);
        return outcome.answer as AnswerOf<N>; // the dispatcher answers in kind
      }
      if (outcome.end === 'blocked')
        throw new UnexpectedAnswer(`${call.op} of d${from} is held: ${JSON.stringify(outcome.on)}`);
      state = outcome.state;
      step(stepKind.yield, domain.domid);
    }
    throw new UnexpectedAnswer(`${call.op} of d${from} does not end`);
  }

  /** Whether calls of this actor end their slice at every check for preemption. */
  preempt = false;

  /**
   * One page read or written by a device, through IOTLB and tables. 0, or the fault reason; with `fault` a fault is a violation
   * of that invariant.
   */
  dma(
    device: Sbdf,
    dfn: number,
    kind: 'r' | 'w',
    rest: { readonly tag?: number; readonly fault?: string } = {},
  ): number {
    // A request that follows another one may come at any time after it.
    if (this.transactions++ > 0) step(stepKind.yield, dfn);
    const reason = this.engine.transaction(device, dfn, kind, rest.tag ?? 1);
    this.observe(
      `DMA ${kind} dfn ${dfn.toString(16)} → ${reason === 0 ? `done${kind === 'r' ? `, ${this.engine.tag}` : ''}` : `fault ${reason}`}`,
    );
    if (reason !== 0 && rest.fault !== undefined) {
      const name = Object.entries(faultReason).find(([, code]) => code === reason)?.[0] ?? 'unknown';
      const text =
        `a DMA ${kind === 'w' ? 'write' : 'read'} of ${formatSbdf(device)} at dfn ${dfn.toString(16)} faulted ` +
        `(reason ${reason}, ${name}): ${this.engine.lastFault?.why ?? 'bus mastering is off'}`;
      this.host.platform.violation({ invariant: rest.fault, text, evidence: { sbdf: device, dfn, reason } });
    }
    return reason;
  }

  /** Who has the device: a domain's number, or -1. */
  ownerOf(device: Sbdf): number {
    step(stepKind.read, device);
    return this.host.iommu.ownerOf(this.host.iommu.deviceIndex(device));
  }

  /** Xen writes to a frame of guest memory that it has translated to: it must still be the domain's. */
  xenWrite(domid: number, m: Mfn, tag: number): void {
    const { frames } = this.host;
    step(stepKind.write, m);
    const owner = frames.ownerOf(m);
    const whose = owner < 0 ? 'nobody' : `d${owner}`;
    const text = `Xen writes to mfn ${m.toString(16)} for d${domid}, but it belongs to ${whose} now`;
    this.require(owner === domid, 'xenAccessHoldsAReference', text, { mfn: m, owner });
    Atomics.store(frames.tag, m, tag);
  }

  /** What the last DMA read found. */
  get tag(): number {
    return this.engine.tag;
  }

  /** The frame that the last DMA reached, if it did not fault. */
  get frame(): number {
    return this.engine.mfn;
  }

  /** Says that an invariant does not hold, unless it does. */
  require(
    holds: boolean,
    invariant: string,
    text: string,
    evidence: Readonly<Record<string, number | string>> = {},
  ): void {
    if (!holds) this.host.platform.violation({ invariant, text, evidence });
  }

  /** Ends the test with a message unless a call answered as it should. */
  expect(rc: number, wanted: number, what: string): void {
    if (rc !== wanted) throw new UnexpectedAnswer(`${what} answered ${rc} instead of ${wanted}`);
  }
}

export interface GuestSpec {
  /** Page ranges of RAM, populated in the largest pieces that fit. */
  readonly ram?: readonly { readonly gfn: number; readonly pages: number }[];
  /** Page ranges that are populated on demand; `cache` pages stand behind them. */
  readonly pod?: readonly { readonly gfn: number; readonly pages: number }[];
  readonly cache?: number;
  readonly maxPages?: number;
  readonly poolPages?: number;
  /** Absent: with devices. */
  readonly iommu?: boolean;
  readonly devices?: readonly Sbdf[];
}

const POD = 1 << 16;

/** A world before the actors begin: nobody else runs. */
export class Setup extends World {
  /** An HVM guest, unpaused. Answers its number. */
  guest(spec: GuestSpec = {}): number {
    const domid = this.call(0, {
      op: 'createdomain',
      domid: 0,
      name: 'guest',
      hvm: true,
      hap: true,
      iommu: spec.iommu ?? (spec.devices ?? []).length > 0,
      noSharept: false,
      deviceModel: true,
      vcpus: 1,
    }).domid;
    if (domid === undefined) throw new UnexpectedAnswer('a guest cannot be created: is the machine too small?');
    const pool = (spec.poolPages ?? 24) * 4096;
    this.expect(this.call(0, { op: 'max_mem', domid, maxKb: (spec.maxPages ?? 2048) * 4 }).rc, 0, 'max_mem');
    this.expect(this.call(0, { op: 'set_paging_mempool_size', domid, bytes: pool }).rc, 0, 'set_paging_mempool_size');
    for (const { gfn, pages } of spec.ram ?? []) this.populate(domid, gfn, pages);
    if (spec.cache !== undefined) {
      const targetPages = this.domain(domid).r.totPages + spec.cache;
      for (const { gfn, pages } of spec.pod ?? []) this.populate(domid, gfn, pages, POD);
      this.expect(this.call(0, { op: 'set_pod_target', domid, targetPages }).rc, 0, 'set_pod_target');
    } else for (const { gfn, pages } of spec.pod ?? []) this.populate(domid, gfn, pages, POD);
    for (const device of spec.devices ?? []) this.assign(domid, device);
    this.expect(this.call(0, { op: 'unpausedomain', domid }).rc, 0, 'unpausedomain');
    return domid;
  }

  /** RAM, or with `memFlags` what they say, by 2M where that fits. */
  populate(domid: number, gfn: number, pages: number, memFlags = 0): void {
    for (let at = gfn; at < gfn + pages; ) {
      const order = at % 512 === 0 && gfn + pages - at >= 512 ? 9 : 0;
      const extents = { start: at, count: 1 };
      this.expect(
        this.call(0, { op: 'populate_physmap', domid, order, memFlags, extents }).rc,
        1,
        `populate gfn ${at}`,
      );
      at += 2 ** order;
    }
  }

  assign(domid: number, device: Sbdf): void {
    const { rc } = this.call(0, { op: 'assign_device', domid, sbdf: device, flags: 0 });
    this.expect(rc, 0, `assigning ${formatSbdf(device)} to d${domid}`);
  }

  /** The device's translations of these pages are cached from now on. */
  warm(device: Sbdf, dfn: number, pages = 1): void {
    for (let at = dfn; at < dfn + pages; at++) this.expect(this.dma(device, at, 'r'), 0, `warming dfn ${at}`);
  }
}
