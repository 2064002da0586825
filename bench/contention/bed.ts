// The host of the contention experiments: dom0 with memory to lend, a guest with a window of small pages, one of large ones, and RAM of
// both sizes; and its other vCPUs, each a thread (lock-contention-worker.ts).
import { Worker } from 'node:worker_threads';
import { VirtualTime } from '#explore/virtual-time';
import type { Domain } from '#model/domain/domain';
import { tablePagesFor } from '#model/host-config';
import { bootTestbed, hypercall, makeGuest, type Testbed } from '../../libs/model/test-support/hypercall-fixture.ts';
import { Figures } from './figures.ts';
import {
  BALLOON,
  BALLOON_PAGES,
  controlWord,
  LENDER_RAM,
  MAX_OTHERS,
  MAX_PAGES,
  mode,
  type OtherWork,
  phase,
  RAM,
  WINDOW,
} from './layout.ts';
import { WORK_DOUBLES } from './probe.ts';

export class ContentionBed {
  readonly bed: Testbed;
  readonly guest: Domain;
  readonly words = new Int32Array(new SharedArrayBuffer(64));
  readonly work = new Float64Array(new SharedArrayBuffer(WORK_DOUBLES * 8));
  readonly virtualBuffer = new SharedArrayBuffer(VirtualTime.bytes(MAX_OTHERS + 1));
  readonly deadline = new Float64Array(new SharedArrayBuffer(8));
  readonly figuresBuffer = new SharedArrayBuffer(Figures.bytes(MAX_OTHERS + 1));
  private readonly ended: Promise<void>[] = [];
  private runs = 0;

  constructor() {
    const frames = 3 * MAX_PAGES + 2 ** 18;
    this.bed = bootTestbed({
      pcpus: MAX_OTHERS + 1,
      frames,
      tablePages: tablePagesFor(frames),
      iommuEnabled: false,
      units: [],
      devices: [],
      grantFrames: 1,
      maptrackFrames: 1,
    });
    this.guest = makeGuest(this.bed, { maxPages: frames, poolPages: 16_384 });
    this.populate(0, 9, LENDER_RAM);
    this.populate(this.guest.domid, 0, RAM[0]);
    this.populate(this.guest.domid, 9, RAM[9]);
    this.call({ op: 'populate_physmap', domid: this.guest.domid, order: 0, memFlags: 0, extents: balloonExtents });
    for (const order of [0, 9] as const) {
      const window = { domid: this.guest.domid, first: WINDOW[order], count: MAX_PAGES, order, onFailure: 0 };
      const { rc } = hypercall(this.bed, this.bed.dom0, { op: 'lend_open', ...window });
      if (rc !== 0) throw new Error(`lend_open: ${rc}`);
    }
  }

  private populate(domid: number, order: number, start: number): void {
    const extents = { start, count: MAX_PAGES / 2 ** order };
    this.call({ op: 'populate_physmap', domid, order, memFlags: 0, extents });
  }

  private call(call: Parameters<typeof hypercall<'populate_physmap'>>[2] & { extents: { count: number } }): void {
    const { rc } = hypercall(this.bed, this.bed.dom0, call);
    if (rc !== call.extents.count) throw new Error(`${call.op}: ${rc} of ${call.extents.count}`);
  }

  /** Starts the threads of the other vCPUs; they stand still until `release`. */
  async startOthers(lock: number): Promise<void> {
    for (let cpu = 1; cpu <= MAX_OTHERS; cpu++) {
      const workerData: OtherWork = {
        shared: this.bed.h.shared,
        cpu,
        domid: this.guest.domid,
        control: this.words.buffer,
        work: this.work.buffer,
        figures: this.figuresBuffer,
        virtual: this.virtualBuffer,
        deadline: this.deadline.buffer,
        lock,
      };
      const worker = new Worker(new URL('../lock-contention-worker.ts', import.meta.url), {
        workerData,
        execArgv: ['--conditions=source'],
      });
      this.ended.push(
        new Promise((resolve, reject) => {
          worker.once('error', reject);
          worker.once('exit', () => resolve());
        }),
      );
    }
    await Promise.race([this.allReady(), Promise.all(this.ended)]);
  }

  private async allReady(): Promise<void> {
    for (;;) {
      const ready = Atomics.load(this.words, controlWord.ready);
      if (ready === MAX_OTHERS) return;
      await Atomics.waitAsync(this.words, controlWord.ready, ready).value;
    }
  }

  /** `others` vCPUs begin to work; under virtual time they wait for whoever leads. */
  release(others: number, how: (typeof mode)[keyof typeof mode]): void {
    Atomics.store(this.words, controlWord.active, others);
    Atomics.store(this.words, controlWord.mode, how);
    this.deadline[0] = Number.POSITIVE_INFINITY;
    this.turnTo(phase.run + this.runs++);
    this.await(controlWord.running, (running) => running === others);
  }

  /** All vCPUs stand still when this returns. Under virtual time they end by themselves. */
  halt(): void {
    if (Atomics.load(this.words, controlWord.mode) === mode.live) this.turnTo(phase.idle);
    this.await(controlWord.running, (running) => running === 0);
    this.turnTo(phase.idle);
  }

  private turnTo(next: number): void {
    Atomics.store(this.words, controlWord.phase, next);
    Atomics.notify(this.words, controlWord.phase);
  }

  private await(word: number, enough: (value: number) => boolean): void {
    for (let value = Atomics.load(this.words, word); !enough(value); value = Atomics.load(this.words, word)) {
      Atomics.wait(this.words, word, value, 100);
      this.bed.h.lockTable.panicCell.check();
      if (Atomics.load(this.words, controlWord.failed) !== 0) throw new Error('the thread of a vCPU ended');
    }
  }

  async end(): Promise<void> {
    this.turnTo(phase.end);
    await Promise.all(this.ended);
  }

  get violations(): number {
    return Atomics.load(this.words, controlWord.violations) + this.bed.log.violations.length;
  }
}

const balloonExtents = { start: BALLOON, count: BALLOON_PAGES * MAX_OTHERS };
