// The runs with several threads: a lender that moves its memory while vCPUs use it, at a given rate; and revocations against a hostile
// borrower. Under virtual time every vCPU has a CPU of its own; what each step costs is libs/explore's table.
import { eventsSeen } from '#model/lending/window';
import { counter } from '#model/shared-memory/counters';
import { Histogram } from '#report/histogram';
import { hypercall } from '../../libs/model/test-support/hypercall-fixture.ts';
import type { Meter } from './meter.ts';
import { p2mLockOf, type Role, Stage, stageWord, VCPUS, VirtualBox, WINDOW } from './stage.ts';

/** From the guest's fault to the page that the lender's kernel has found: its event, its fault handler. In virtual nanoseconds. */
export const LOOKUP_NS = 10_000;
/** What the lender's thread does between two looks at its events. */
const POLL_NS = 2000;

export interface MigrationSpec {
  readonly order: 0 | 9;
  /** Pages of 4K in the buffer, and how many of them one move takes. */
  readonly pages: number;
  readonly perMove: number;
  /** Pages of 4K moved a second. */
  readonly rate: number;
  readonly role: Exclude<Role, 'hostile'>;
  readonly ms: number;
}

export interface Migration extends MigrationSpec {
  readonly moves: number;
  readonly revoke: Histogram;
  readonly stall: Histogram;
  readonly faults: number;
  /** Of the vCPUs' time. */
  readonly stalledShare: number;
  /** Accesses a second, of all vCPUs. */
  readonly accesses: number;
}

export async function migrate(meter: Meter, spec: MigrationSpec): Promise<Migration> {
  const { order, pages, perMove, rate } = spec;
  const stage = new Stage();
  if (stage.lend(order, 0, pages) !== 0) throw new Error('lend');
  const lock = p2mLockOf(stage);
  const box = new VirtualBox(stage, lock);
  meter.follow(box.time);
  const roles = Array.from({ length: VCPUS }, () => spec.role);
  await stage.start(roles, order, pages, box, lock);
  const { time } = box;
  const revoke = new Histogram();
  const interval = (perMove / rate) * 1e9;
  let moves = 0;
  let seen = eventsSeen(stage.lender);
  time.lead(VCPUS);
  for (let next = interval; time.now < spec.ms * 1e6; ) {
    if (time.now >= next) {
      const from = time.now;
      const { rc } = stage.revoke(order, (moves * perMove) % pages, perMove);
      if (rc !== 0) throw new Error(`revoke: ${rc}`);
      revoke.record(time.now - from);
      moves++;
      next += interval;
    }
    const now = eventsSeen(stage.lender);
    if (now !== seen) {
      seen = now;
      serve(stage, order, (ns) => time.pass(ns));
    }
    time.pass(POLL_NS);
    time.turn();
  }
  stage.deadline[0] = time.now;
  // Nobody is left waiting.
  stage.lend(order, 0, pages);
  const ns = time.now;
  time.leave();
  await stage.over();
  return {
    ...spec,
    moves,
    revoke,
    stall: stage.stalls(),
    faults: stage.total('faults'),
    stalledShare: stage.total('stalledNs') / (ns * VCPUS),
    accesses: (stage.total('accesses') / ns) * 1e9,
  };
}

/** The lender answers what has come in: each page is found, and lent again. */
function serve(stage: Stage, order: 0 | 9, pass: (ns: number) => void): void {
  const { faults = [] } = hypercall(stage.bed, stage.lender, { op: 'lend_faults', wait: false });
  for (const { gfn } of faults) {
    pass(LOOKUP_NS);
    const page = gfn - WINDOW[order];
    stage.lend(order, page - (page % 2 ** order), 2 ** order);
  }
}

export interface Hostile {
  readonly revokes: number;
  readonly wall: Histogram;
  readonly virtual: Histogram;
  readonly refused: number;
  readonly allocated: number;
  /** What the borrower asked meanwhile, in both runs. */
  readonly calls: number;
  /** Virtual nanoseconds of a revocation that nobody contends with. */
  readonly aloneNs: number;
}

/** Revocations of one page each: `live` on the CPUs of the machine, `virtual` of them under virtual time. */
export async function againstHostile(meter: Meter, wanted: { live: number; virtual: number }): Promise<Hostile> {
  const [wall, virtual] = [new Histogram(), new Histogram()];
  let refused = 0;
  let allocated = 0;
  let calls = 0;
  let aloneNs = 0;
  const pages = 64;
  for (const how of ['virtual', 'live'] as const) {
    const stage = new Stage();
    const lock = p2mLockOf(stage);
    stage.lend(0, 0, pages);
    aloneNs = Math.max(aloneNs, meter.measure(() => stage.revoke(0, 0, 1)).virtualNs);
    stage.lend(0, 0, pages);
    const box = how === 'virtual' ? new VirtualBox(stage, lock) : null;
    if (box) meter.follow(box.time);
    await stage.start(['hostile', 'hostile', 'hostile', 'hostile'], 0, pages, box, lock);
    box?.time.lead(VCPUS);
    for (let i = 0; i < wanted[how]; i++) {
      const page = i % pages;
      const before = allocations(stage);
      const from = box ? box.time.now : performance.now() * 1e6;
      const { rc } = stage.revoke(0, page, 1);
      (box ? virtual : wall).record((box ? box.time.now : performance.now() * 1e6) - from);
      allocated += allocations(stage) - before;
      if (rc !== 0) refused++;
      if (stage.lend(0, page, 1) !== 0) throw new Error('lend');
      box?.time.turn();
    }
    if (box) {
      stage.deadline[0] = box.time.now;
      box.time.leave();
    } else Atomics.store(stage.words, stageWord.stop, 1);
    await stage.over();
    calls += stage.total('calls');
  }
  return { revokes: wanted.live + wanted.virtual, wall, virtual, refused, allocated, calls, aloneNs };
}

/** Of this thread: frames from the heap, tables of p2m and IOMMU. */
function allocations({ bed: { h } }: Stage): number {
  return (['heap.alloc', 'p2m.ptAlloc', 'iommu.ptAlloc'] as const).reduce(
    (sum, name) => sum + h.counters.readOwn(counter(name)),
    0,
  );
}
