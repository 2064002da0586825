// The measurements of the contention experiment: one cell is one operation, repeated under one locking policy beside so many other vCPUs.
import { VirtualTime } from '#explore/virtual-time';
import type { LockProfileRow } from '#formats/lockprof';
import { Histogram } from '#report/histogram';
import { ContentionBed } from './bed.ts';
import { Figures, type Kind, type Measure, type OperationName, operations } from './figures.ts';
import { controlWord, MAX_OTHERS, mode } from './layout.ts';
import { type Hold, Operations, type PageOrder, type Pattern } from './operations.ts';
import { Probe } from './probe.ts';

export interface CellSpec {
  readonly op: Exclude<OperationName, 'none'>;
  readonly hold: Hold;
  readonly order: PageOrder;
  readonly extents: number;
  readonly pattern: Pattern;
  readonly others: number;
}

/** Percentiles in nanoseconds, or in steps. */
export interface Spread {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

export interface Cell extends CellSpec {
  readonly hold_: Readonly<Record<Measure, Spread>>;
  readonly wait: Readonly<Record<Measure, Spread>>;
  /** What the others completed per second while the operation ran. */
  readonly othersPerSecond: number;
  readonly extentsPerSecond: number;
}

const spreadOf = (h: Histogram): Spread => ({
  count: Math.round(h.count),
  p50: h.percentile(50),
  p99: h.percentile(99),
  p999: h.percentile(99.9),
  max: h.max,
});

export class Measuring {
  readonly bed = new ContentionBed();
  private readonly own: Figures;
  private readonly all: readonly Figures[];
  private readonly virtual: VirtualTime;
  private readonly lock: number;
  private readonly operations: Operations;
  /** Virtual time that the last cell took. */
  virtualNs = 0;

  constructor() {
    const { bed } = this;
    this.all = Array.from({ length: MAX_OTHERS + 1 }, (_, thread) => new Figures(bed.figuresBuffer, thread));
    this.own = this.all[0] as Figures; // there is at least one
    const probe = new Probe(bed.work, this.own, () => bed.words[controlWord.operation] as number);
    this.lock = probe.watch(bed.guest.locks.p2m);
    const buffers = Object.values(bed.bed.h.shared.buffers);
    this.virtual = new VirtualTime(bed.virtualBuffer, MAX_OTHERS + 1, 0, buffers, this.lock);
    probe.follow(this.virtual);
    this.operations = new Operations(bed, probe, this.virtual, this.lock);
  }

  start(): Promise<void> {
    return this.bed.startOthers(this.lock);
  }

  /** One operation. What a revocation takes away was mapped before, and the other way round. */
  private once(spec: CellSpec, totals: Map<OperationName, { extents: number; ns: number }>): void {
    const { order, extents, pattern } = spec;
    const run = (op: CellSpec['op']): void => {
      Atomics.store(this.bed.words, controlWord.operation, operations.indexOf(op));
      const done =
        op === 'map'
          ? this.operations.map(spec.hold, order, extents, pattern)
          : op === 'revoke'
            ? this.operations.revoke(spec.hold, order, extents)
            : this.operations.translate(spec.hold, order, extents, pattern);
      const total = totals.get(op) ?? { extents: 0, ns: 0 };
      totals.set(op, { extents: total.extents + done.extents, ns: total.ns + done.ns });
    };
    if (spec.op === 'translate') run('translate');
    else {
      run('map');
      run('revoke');
    }
  }

  private cellsOf(spec: CellSpec, totals: ReadonlyMap<OperationName, { extents: number; ns: number }>): Cell[] {
    const merged = (op: number, kind: Kind, measure: Measure): Spread => {
      const sum = new Histogram();
      for (const f of kind === 'hold' ? [this.own] : this.all.slice(1)) sum.add(f.histogram(op, kind, measure));
      return spreadOf(sum);
    };
    const three = (op: number, kind: Kind): Record<Measure, Spread> => ({
      wall: merged(op, kind, 'wall'),
      steps: merged(op, kind, 'steps'),
      virtual: merged(op, kind, 'virtual'),
    });
    return [...totals].map(([name, { extents, ns }]) => {
      const op = operations.indexOf(name);
      const done = this.all.slice(1).reduce((sum, f) => sum + f.read(op, 'ops'), 0);
      return {
        ...spec,
        op: name as CellSpec['op'], // `none` is no operation of a cell
        hold_: three(op, 'hold'),
        wait: three(op, 'wait'),
        othersPerSecond: (done / ns) * 1e9,
        extentsPerSecond: (extents / ns) * 1e9,
      };
    });
  }

  private begin(): void {
    for (const f of this.all) f.clear();
    this.operations.resetLockProfile();
  }

  /** Nobody else runs: what the operation itself costs. The smallest of `rounds` holds is the steadiest figure. */
  alone(spec: Omit<CellSpec, 'others'>, rounds: number): Cell[] {
    this.begin();
    const totals = new Map<OperationName, { extents: number; ns: number }>();
    for (let i = 0; i < rounds; i++) this.once({ ...spec, others: 0 }, totals);
    return this.cellsOf({ ...spec, others: 0 }, totals);
  }

  /** Every vCPU has a CPU of its own, in virtual time: at least `ms` of it, and at least one operation. */
  virtually(spec: CellSpec, ms: number): Cell[] {
    this.begin();
    const totals = new Map<OperationName, { extents: number; ns: number }>();
    this.virtual.reset();
    this.bed.release(spec.others, mode.virtual);
    this.virtual.lead(spec.others);
    do this.once(spec, totals);
    while (this.virtual.now < ms * 1e6);
    this.finish();
    return this.cellsOf(spec, totals);
  }

  /** What `others` vCPUs do in a second of virtual time when there is no operation. */
  undisturbed(others: number, ms: number): number {
    this.begin();
    Atomics.store(this.bed.words, controlWord.operation, operations.indexOf('none'));
    this.virtual.reset();
    this.bed.release(others, mode.virtual);
    this.virtual.lead(others);
    this.virtual.pass(ms * 1e6);
    this.finish();
    const done = this.all.reduce((sum, f) => sum + f.read(operations.indexOf('none'), 'ops'), 0);
    return (done / ms) * 1000;
  }

  private finish(): void {
    this.virtualNs = this.virtual.now;
    this.bed.deadline[0] = this.virtual.now;
    this.virtual.leave();
    this.bed.halt();
  }

  /** On the CPUs that the machine has, for at least `ms` of its time. */
  live(spec: CellSpec, ms: number): Cell[] {
    this.begin();
    const totals = new Map<OperationName, { extents: number; ns: number }>();
    this.bed.release(spec.others, mode.live);
    const end = performance.now() + ms;
    this.operations.stop = () => performance.now() > end + ms;
    do this.once(spec, totals);
    while (performance.now() < end);
    this.operations.stop = () => false;
    this.bed.halt();
    // What was cut short is taken back.
    this.operations.revoke('whole', spec.order, spec.extents);
    return this.cellsOf(spec, totals);
  }

  /** The lock profile of the last cell: rows of locks that were taken. */
  lockProfile(): LockProfileRow[] {
    const { h } = this.bed.bed;
    return h
      .lockProfile()
      .filter(({ lockCnt }) => lockCnt > 0)
      .map(({ name, scope, lockCnt, blockCnt, holdNs, waitNs, inXen }) => ({
        scope: scope < 0 ? ('global' as const) : scope,
        name,
        lockCnt,
        blockCnt,
        holdNs,
        blockNs: waitNs,
        inXen,
      }));
  }
}
