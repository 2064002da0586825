// A driver in dom0 that manages bus frames of its own (PV-IOMMU) under its device's DMA. Each round it maps some of its pages, lets
// the device write there once, and gives the pages up: what holds them now is the mapping alone. The device goes on writing. Then
// one batch takes the bus frames back, or maps other pages there. What a batch flushes, and when a page may go, is Xen's.
import { DOMID_SELF } from '../../frames/addresses.ts';
import type { Answer, Call, IommuOp } from '../../hypercall/calls.ts';
import { errno } from '../../hypercall/errno.ts';
import { iommuOpFlag } from '../../iommu/pv-iommu.ts';
import { pageState } from '../guest-memory.ts';
import { type Task, type TaskContext, tagOf } from '../task.ts';
import type { BusAct, GpuOrder } from './spec.ts';
import { Tally } from './tally.ts';

const TAG_SALT = 0xb0f5;
/** Bus frames of one batch: each is an attempt. */
const BATCH = 64;
/** Passes of the device over them: longer than the batch takes. */
const PASSES = 4000;
const RW = iommuOpFlag.readable | iommuOpFlag.writeable;

const op = (kind: IommuOp['kind'], bfn: number, gfn = 0): IommuOp => ({
  kind,
  bfn,
  gfn,
  domid: 0,
  flags: kind === 'map_page' ? RW : 0,
});
const call = (ops: readonly IommuOp[]): Call => ({ op: 'iommu_op', ops });

export class BusDriver implements Task {
  readonly id = 'bus-driver';
  private readonly c: TaskContext;
  private readonly queue: Tally[] = [];
  private rounds = 0;

  constructor(context: TaskContext) {
    this.c = context;
  }

  request(order: GpuOrder): void {
    this.queue.push(new Tally(order));
  }

  step(now: number): number {
    const tally = this.queue[0];
    if (!tally) return Number.POSITIVE_INFINITY;
    this.round(tally);
    if (tally.over) this.queue.shift();
    this.c.sink.event('gpuActivity', tally.figures);
    return now;
  }

  private round(tally: Tally): void {
    const { port, memory } = this.c;
    const { act, device } = tally.order;
    const pages = 'firstBfn' in act ? memory.allocPages(2 * BATCH, pageState.dma) : [];
    if (!('firstBfn' in act) || pages.length < 2 * BATCH) {
      memory.freePages(pages);
      tally.fail(-errno.ENOMEM);
      return;
    }
    const [old, fresh] = [pages.slice(0, BATCH), pages.slice(BATCH)];
    const bfns = old.map((_, i) => act.firstBfn + i);
    const frames = { start: act.firstBfn, count: BATCH };
    const extents = { frames: Uint32Array.from(old) };
    const job = (tag: number, repeat: number): Call => ({
      op: 'device_submit',
      sbdf: device,
      commands: [{ kind: 'write', frames, tag, repeat }],
    });
    const [mapped, first] = port.multicall([
      call(bfns.map((bfn, i) => op('map_page', bfn, old[i]))),
      job(this.nextTag(), 1),
    ]);
    if (!mapped || !('statuses' in mapped) || mapped.statuses?.some((status) => status !== 0)) tally.fail(-errno.EPERM);
    // Once through all of them: the IOTLB has them when the pages go.
    this.wait(first, tally);
    const giveUp: Call = { op: 'decrease_reservation', domid: DOMID_SELF, order: 0, extents };
    const batch = call(this.batch(act.what, bfns, fresh));
    if (act.running) {
      // Giving up may take long. The device must be at work in the batch.
      const calls = [giveUp, job(this.nextTag(), PASSES), batch, { op: 'device_reset', sbdf: device } as const];
      this.wait(port.multicall(calls)[1], tally);
    } else port.multicall([giveUp, batch]);
    if (act.what === 'reuse') this.useAnew(job, fresh, bfns, tally);
    port.call({ op: 'populate_physmap', domid: DOMID_SELF, order: 0, memFlags: 0, extents });
    memory.freePages(pages);
    tally.made += BATCH;
  }

  /** The bus frames lead to other pages now: what the device writes is there. Then they are given back. */
  private useAnew(
    job: (tag: number, repeat: number) => Call,
    fresh: readonly number[],
    bfns: readonly number[],
    tally: Tally,
  ): void {
    const { port } = this.c;
    const tag = this.nextTag();
    this.wait(port.multicall([job(tag, 1)])[0], tally);
    const { bad = 0, firstBad = -1 } = port.call({ op: 'verify', frames: { frames: Uint32Array.from(fresh) }, tag });
    tally.looked(bad, firstBad);
    port.multicall([call(bfns.map((bfn) => op('unmap_page', bfn)))]);
  }

  private nextTag(): number {
    return tagOf(this.c.seed, TAG_SALT, this.rounds++);
  }

  /** Until the device has done, or dropped, what was submitted. */
  private wait(submitted: Answer | undefined, tally: Tally): void {
    const job = submitted && 'job' in submitted ? submitted.job : undefined;
    if (job === undefined) {
      tally.fail(-errno.EBUSY);
      return;
    }
    const { device: sbdf } = tally.order;
    const { completed = 0, faults = 0, firstFaultDfn = -1 } = this.c.port.call({ op: 'device_wait', sbdf, job });
    tally.job({ rc: 0, completed, busFaults: faults, firstFaultDfn });
  }

  private batch(what: BusAct, bfns: readonly number[], fresh: readonly number[]): IommuOp[] {
    if (what === 'release') return bfns.map((bfn) => op('unmap_page', bfn));
    return bfns.flatMap((bfn, i) => [op('unmap_page', bfn), op('map_page', bfn, fresh[i])]);
  }

  stop(): void {
    this.queue.length = 0;
  }
}
