// The three designs side by side: the same guests, tables, writes and balloon on three hosts that differ in nothing but the policy
// `mediated` (and, for A, in a dom0 that is PV), and what the model counted meanwhile. Nothing in the table is written by hand.
// Wall time is nobody's business here: hypercalls, table writes and flushes are counted.
import { InProcessHost } from '../boot/in-process-host.ts';
import type { Domain } from '../domain/domain.ts';
import type { Mfn } from '../frames/addresses.ts';
import { dmaCpu, Host, type Platform, type Violation } from '../host.ts';
import type { HostConfig, ModelPolicies } from '../host-config.ts';
import type { Answer, AnswerOf, Call, Hypercalls } from '../hypercall/calls.ts';
import { checkInvariants } from '../invariants/check.ts';
import type { CounterName } from '../shared-memory/counters.ts';
import { type Exposure, exposure } from './bus-view.ts';
import { GpuEngine } from './gpu-engine.ts';
import type { GpuState } from './gpu-memory.ts';
import { GuestGpu } from './guest-gpu.ts';
import { Mediator } from './mediator.ts';
import { makePte, PTE_PRESENT, PTE_WRITE } from './pte.ts';

export type Design = Exclude<ModelPolicies['mediated'], 'gpa'>;

/** What something cost, per unit of it. */
export interface DesignCost {
  /** Trapped writes: two world switches each. */
  readonly ioreqs: number;
  readonly hypercalls: number;
  readonly p2mWrites: number;
  readonly ioWrites: number;
  readonly cpuFlushes: number;
  readonly iotlbFlushes: number;
  readonly gpuFlushes: number;
  readonly compares: number;
}

export interface DesignRow {
  readonly design: Design;
  readonly shadowHolds: string;
  readonly dom0: 'PV, all of RAM 1:1' | 'PVH, strict';
  /** A write that names a frame shadowed already: nothing but the trap. */
  readonly perPteWrite: DesignCost;
  /** A write that names a frame for the first time, less the trap; one by one, and in a table's worth at once. */
  readonly perNewFrame: DesignCost;
  readonly perNewFrameBatched: DesignCost;
  /** A table of 512 entries kept out of sync instead: per submission. */
  readonly perRelaxedSubmit: DesignCost;
  /** One page ballooned out by the guest: all of it, dropped and made again, with so many frames shadowed. */
  readonly perBalloon: DesignCost;
  readonly framesShadowed: number;
  readonly exposure: Exposure;
  /** What became of the ballooned frame before the mediator was told. */
  readonly balloonedFrame: 'free, and the GPU still reached it' | 'kept by a reference until the mediator let go';
  /** Event invariants that the GPU broke when it ran on after the balloon. */
  readonly violations: readonly string[];
}

export interface ComparisonSpec {
  readonly guests: number;
  readonly guestPages: number;
  readonly dom0Pages: number;
  /** Frames that each guest maps for the GPU. */
  readonly shadowed: number;
}

const COSTS: Readonly<Record<keyof DesignCost, readonly CounterName[]>> = {
  ioreqs: ['gpu.ioreq'],
  hypercalls: [],
  p2mWrites: ['p2m.set'],
  ioWrites: ['iommu.map', 'iommu.unmap'],
  cpuFlushes: ['cpu.flush'],
  iotlbFlushes: ['iommu.flushPage', 'iommu.flushDomain'],
  gpuFlushes: ['gpu.tlbFlush'],
  compares: ['gpu.compare'],
};

/** dom0's port, counted: a multicall is one. */
class CountedPort implements Hypercalls {
  calls = 0;
  private readonly port: Hypercalls;

  constructor(port: Hypercalls) {
    this.port = port;
  }
  call<C extends Call>(call: C): AnswerOf<C['op']> {
    this.calls++;
    return this.port.call(call);
  }
  multicall(calls: readonly Call[]): readonly Answer[] {
    this.calls++;
    return this.port.multicall(calls);
  }
}

const rw = (gfn: number): number => makePte(gfn, PTE_PRESENT | PTE_WRITE);
/** A guest's pages: four tables, then the frames its GPU works on, then fresh ones. */
const TABLES = 4;
const FIRST_FRAME = 16;
/** Entries written one by one. */
const WRITES = 32;
const LEAF_TABLE = FIRST_FRAME - 1;

/** One host with its guests, mediator and GPU in one thread. */
class Bench {
  readonly host: InProcessHost;
  readonly port: CountedPort;
  readonly gpu: GpuState;
  readonly mediator: Mediator;
  readonly engine: GpuEngine;
  readonly violations: Violation[] = [];
  readonly guests: { readonly d: Domain; readonly driver: GuestGpu; readonly port: Hypercalls }[] = [];
  private readonly cpu: Host;

  constructor(config: HostConfig, spec: ComparisonSpec) {
    const platform: Platform = { printk: () => {}, violation: (v) => this.violations.push(v) };
    this.host = new InProcessHost(config, { memoryPages: spec.dom0Pages, vcpus: 1 }, platform);
    const { shared } = this.host.h;
    this.cpu = new Host(shared, 0, platform);
    const [gpu] = this.cpu.gpus.all;
    if (!gpu) throw new Error('the host has no mediated GPU');
    this.gpu = gpu;
    this.port = new CountedPort(this.host.port(0));
    this.mediator = new Mediator(this.cpu, this.port, gpu);
    this.engine = new GpuEngine(new Host(shared, dmaCpu(config, 0), platform), gpu, 0);
    for (let i = 0; i < spec.guests; i++) this.guests.push(this.makeGuest(spec));
  }

  private makeGuest(spec: ComparisonSpec): Bench['guests'][number] {
    const dom0 = this.host.port(0);
    const created = dom0.call({
      op: 'createdomain',
      domid: 0,
      name: 'guest',
      hvm: true,
      hap: true,
      iommu: false,
      noSharept: false,
      vcpus: 1,
      deviceModel: true,
    });
    const domid = created.domid ?? -1;
    dom0.call({ op: 'max_mem', domid, maxKb: spec.guestPages * 4 + 1024 });
    dom0.call({ op: 'set_paging_mempool_size', domid, bytes: 512 * 4096 });
    const extents = { start: 0, count: spec.guestPages };
    const populated = dom0.call({ op: 'populate_physmap', domid, order: 0, memFlags: 0, extents });
    dom0.call({ op: 'unpausedomain', domid });
    const d = this.cpu.domain(domid);
    if (!d || populated.rc !== spec.guestPages)
      throw new Error(`no guest of ${spec.guestPages} pages: ${populated.rc}`);
    const { aperturePages, gmPages } = this.gpu.config;
    const share = (pages: number): number => Math.floor(pages / spec.guests);
    const rc = this.mediator.attach(domid, share(aperturePages), share(gmPages - aperturePages));
    if (rc !== 0) throw new Error(`attach: ${rc}`);
    return { d, driver: new GuestGpu(this.cpu, d, this.gpu, () => this.mediator.serve()), port: this.host.port(domid) };
  }

  /** What `run` cost, divided by `units`. */
  cost(units: number, run: () => void): DesignCost {
    const calls = this.port.calls;
    const before = this.host.h.counters.snapshot();
    run();
    const after = this.host.h.counters.snapshot();
    const sum = (names: readonly CounterName[]): number =>
      names.reduce((total, name) => total + after[name] - before[name], 0) / units;
    const entries = Object.entries(COSTS).map(([key, names]) => [key, sum(names)]);
    return { ...(Object.fromEntries(entries) as unknown as DesignCost), hypercalls: (this.port.calls - calls) / units }; // one entry per key
  }

  write(guest: number, page: number): number {
    const slot = this.guests[guest]?.d.slot ?? -1;
    return this.engine.access({ slot, context: 0, page, write: true, tag: 7 });
  }
}

function must(rc: number, what: string): void {
  if (rc !== 0) throw new Error(`${what}: ${rc}`);
}

/** Every guest's table over `shadowed` frames, announced and submitted. */
function start(bench: Bench, spec: ComparisonSpec): void {
  const tables = Array.from({ length: TABLES }, (_, i) => i + 1);
  const gfns = Array.from({ length: spec.shadowed }, (_, i) => FIRST_FRAME + i);
  for (const { driver } of bench.guests) {
    must(driver.buildTable(tables, gfns), 'buildTable');
    must(driver.createRoot(0, 1), 'createRoot');
    must(driver.submit(0), 'submit');
  }
}

/** With traps the first table of a guest is written, then one page of it is ballooned out while its GPU goes on. */
function measure(bench: Bench, spec: ComparisonSpec, relaxed: DesignCost, design: Design): DesignRow {
  const [first] = bench.guests;
  if (!first) throw new Error('a comparison needs a guest');
  const { driver, d } = first;
  const leaf = TABLES;
  const free = spec.shadowed;
  const fresh = FIRST_FRAME + spec.shadowed;
  const each = (run: (i: number) => void) => () => {
    for (let i = 0; i < WRITES; i++) run(i);
  };
  const perPteWrite = bench.cost(
    WRITES,
    each((i) => void driver.storePte(leaf, free + i, rw(FIRST_FRAME))),
  );
  const trapped = bench.cost(
    WRITES,
    each((i) => void driver.storePte(leaf, free + i, rw(fresh + i))),
  );
  const perNewFrameBatched = bench.cost(512, () => fillTable(driver, fresh + WRITES));
  const shown = exposure(bench.host.h, bench.gpu);
  const framesShadowed = bench.gpu.frames.size;
  const { perBalloon, balloonedFrame } = balloon(bench, d, FIRST_FRAME);
  const [wrong] = checkInvariants(bench.host.h);
  if (wrong) throw new Error(`${wrong.invariant}: ${wrong.text}`);
  const less = Object.keys(COSTS).map((key) => {
    const name = key as keyof DesignCost; // COSTS has exactly these keys
    return [name, trapped[name] - perPteWrite[name]];
  });
  return {
    design,
    shadowHolds: { A: 'machine frame', B: 'bus frame above RAM', C: 'gfn of dom0' }[design],
    dom0: design === 'A' ? 'PV, all of RAM 1:1' : 'PVH, strict',
    perPteWrite,
    perNewFrame: Object.fromEntries(less) as unknown as DesignCost, // one entry per key
    perNewFrameBatched,
    perRelaxedSubmit: relaxed,
    perBalloon,
    framesShadowed,
    exposure: shown,
    balloonedFrame,
    violations: [...new Set(bench.violations.map(({ invariant }) => invariant))],
  };
}

/** A leaf table that is full before it is linked: its frames are shadowed in one batch. */
function fillTable(driver: GuestGpu, firstFrame: number): void {
  for (let i = 0; i < 512; i++) must(driver.storePte(LEAF_TABLE, i, rw(firstFrame + i)), 'storePte');
  must(driver.storePte(TABLES - 1, 1, rw(LEAF_TABLE)), 'link');
}

function balloon(bench: Bench, d: Domain, gfn: number): Pick<DesignRow, 'perBalloon' | 'balloonedFrame'> {
  const { h } = bench.host;
  const guest = bench.guests[0] as Bench['guests'][number]; // measure() looked
  const m = frameOf(bench, d, gfn);
  let freed = false;
  bench.write(0, 0);
  const perBalloon = bench.cost(1, () => {
    const told: Hypercalls = {
      call: (call) => {
        const answer = guest.port.call(call);
        // Between Xen's answer and its INVALIDATE the GPU runs on.
        freed = h.frames.count[m] === 0;
        bench.write(0, 0);
        return answer;
      },
      multicall: (calls) => guest.port.multicall(calls),
    };
    must(guest.driver.balloonOut(told, [gfn]) - 1, 'balloonOut');
    must(guest.driver.submit(0), 'submit');
  });
  return {
    perBalloon,
    balloonedFrame: freed ? 'free, and the GPU still reached it' : 'kept by a reference until the mediator let go',
  };
}

/** The guest frame behind a gfn, from M2P. */
function frameOf(bench: Bench, d: Domain, gfn: number): number {
  const { frames } = bench.host.h;
  for (let m = 0; m < bench.host.h.config.frames; m++) {
    if (frames.ownerOf(m as Mfn) === d.domid && frames.gfnOf(m as Mfn) === gfn) return m;
  }
  throw new Error(`gfn ${gfn} has no frame`);
}

function benchOf(base: HostConfig, spec: ComparisonSpec, mediated: Design, gpuShadow: 'strict' | 'relaxed'): Bench {
  const policies: ModelPolicies = { ...base.policies, iommuTables: 'separate', mediated, gpuShadow };
  const bench = new Bench({ ...base, policies }, spec);
  start(bench, spec);
  return bench;
}

/** `base`: a host with one mediated GPU and bus frames enough for what the guests map. */
export function compareDesigns(base: HostConfig, spec: ComparisonSpec): DesignRow[] {
  return (['A', 'B', 'C'] as const).map((design) => {
    const relaxed = benchOf(base, spec, design, 'relaxed');
    const perSubmit = relaxed.cost(1, () => must(relaxed.guests[0]?.driver.submit(0) ?? -1, 'submit'));
    return measure(benchOf(base, spec, design, 'strict'), spec, perSubmit, design);
  });
}
