// A lender and the vCPUs of its borrower, each a thread: the lender revokes and lends again, the vCPUs use the window, or do whatever a
// hostile kernel can think of. Under virtual time, or on the CPUs of the machine.
import { Worker } from 'node:worker_threads';
import { VirtualTime } from '#explore/virtual-time';
import type { Domain } from '#model/domain/domain';
import type { HostShared } from '#model/host';
import { capableUnit, defaultPolicies, type ModelPolicies } from '#model/host-config';
import { Histogram } from '#report/histogram';
import { bootTestbed, hypercall, type Testbed } from '../../libs/model/test-support/hypercall-fixture.ts';

export const VCPUS = 4;
/** Window of the borrower and memory of the lender: 4 MiB by 4K pages, and as much by 2M pages. */
export const PAGES = 1024;
export const WINDOW = { 0: 0x8000, 9: 0x10000 } as const;
export const LENDER = { 0: 0x8000, 9: 0x10000 } as const;
/** RAM of the borrower's own. */
export const OWN = 0x100;
export const OWN_PAGES = 256;

export type Role = 'user' | 'asynchronous' | 'hostile';

export const stageWord = { ready: 0, stop: 1, violations: 2, failed: 3 } as const;

/** Per vCPU, in doubles: what it came to, then a histogram of how long it stood still, in nanoseconds. */
export const vcpuFigure = { accesses: 0, faults: 1, stalledNs: 2, calls: 3 } as const;
export const VCPU_DOUBLES = 4 + Histogram.doubles;

export interface StageWork {
  readonly shared: HostShared;
  readonly cpu: number;
  readonly role: Role;
  readonly domid: number;
  readonly window: number;
  /** Pages of the window that are used. */
  readonly pages: number;
  readonly virtual: SharedArrayBuffer | null;
  readonly deadline: SharedArrayBuffer;
  readonly lock: number;
  readonly control: SharedArrayBuffer;
  readonly figures: SharedArrayBuffer;
}

export interface StageOptions {
  readonly iommu?: 'none' | 'separate' | 'shared';
}

export class Stage {
  readonly bed: Testbed;
  readonly lender: Domain;
  readonly borrower: Domain;
  readonly figures = new Float64Array(new SharedArrayBuffer((VCPUS + 1) * VCPU_DOUBLES * 8));
  readonly words = new Int32Array(new SharedArrayBuffer(64));
  readonly deadline = new Float64Array(new SharedArrayBuffer(8));
  private ended: Promise<void>[] = [];

  constructor({ iommu = 'none' }: StageOptions = {}) {
    this.bed = bootTestbed({
      pcpus: VCPUS + 1,
      frames: 2 ** 16,
      grantFrames: 4,
      maptrackFrames: 8,
      ...(iommu === 'none' ? { iommuEnabled: false, units: [], devices: [] } : { units: [capableUnit] }),
      ...(iommu === 'none' ? {} : { policies: { ...sharingPolicies(iommu) } }),
    });
    const { bed } = this;
    this.lender = bed.dom0;
    this.borrower = makeBorrower(bed, iommu !== 'none');
    const { domid } = this.borrower;
    populate(bed, 0, 0, LENDER[0], PAGES);
    populate(bed, 0, 9, LENDER[9], PAGES);
    populate(bed, domid, 0, OWN, OWN_PAGES);
    for (const order of [0, 9] as const) {
      const { rc } = hypercall(bed, bed.dom0, {
        op: 'lend_open',
        domid,
        first: WINDOW[order],
        count: PAGES,
        order,
        onFailure: 0,
      });
      if (rc !== 0) throw new Error(`lend_open: ${rc}`);
    }
  }

  lend(order: 0 | 9, page: number, count: number, flags = 0): number {
    const gfns = { start: LENDER[order] + page, count: count / 2 ** order };
    const { domid } = this.borrower;
    const call = { op: 'lend', domid, first: WINDOW[order] + page, gfns, flags, sequence: 0 } as const;
    return hypercall(this.bed, this.lender, call).rc;
  }

  revoke(order: 0 | 9, page: number, count: number, writeProtect = false): { rc: number; revoked?: number } {
    const { domid } = this.borrower;
    return hypercall(this.bed, this.lender, { op: 'revoke', domid, first: WINDOW[order] + page, count, writeProtect });
  }

  /** Starts the vCPUs; `virtual`: they take part in it as 1, 2 …, and wait for the lender's lead. */
  async start(
    roles: readonly Role[],
    order: 0 | 9,
    pages: number,
    virtual: VirtualBox | null,
    lock: number,
  ): Promise<void> {
    this.figures.fill(0);
    this.words.fill(0);
    this.deadline[0] = Number.POSITIVE_INFINITY;
    this.ended = roles.map((role, i) => {
      const workerData: StageWork = {
        shared: this.bed.h.shared,
        cpu: i + 1,
        role,
        domid: this.borrower.domid,
        window: WINDOW[order],
        pages,
        virtual: virtual?.buffer ?? null,
        deadline: this.deadline.buffer,
        lock,
        control: this.words.buffer,
        figures: this.figures.buffer,
      };
      const entry = new URL('../lending-worker.ts', import.meta.url);
      const worker = new Worker(entry, { workerData, execArgv: ['--conditions=source'] });
      return new Promise<void>((resolve, reject) => {
        worker.once('error', reject);
        worker.once('exit', () => resolve());
      });
    });
    const ready = async (): Promise<void> => {
      for (let n = Atomics.load(this.words, 0); n < roles.length; n = Atomics.load(this.words, 0)) {
        await Atomics.waitAsync(this.words, stageWord.ready, n).value;
      }
    };
    await Promise.race([ready(), Promise.all(this.ended)]);
  }

  /** After `deadline` or `stop` is set. */
  async over(): Promise<void> {
    await Promise.all(this.ended);
    const violations = Atomics.load(this.words, stageWord.violations) + this.bed.log.violations.length;
    if (violations > 0) throw new Error(`${violations} invariants were violated`);
  }

  figure(vcpu: number, name: keyof typeof vcpuFigure): number {
    return this.figures[vcpu * VCPU_DOUBLES + vcpuFigure[name]] as number;
  }

  total(name: keyof typeof vcpuFigure): number {
    return Array.from({ length: VCPUS }, (_, i) => this.figure(i + 1, name)).reduce((a, b) => a + b, 0);
  }

  /** How long all vCPUs stood still. */
  stalls(): Histogram {
    const sum = new Histogram();
    for (let vcpu = 1; vcpu <= VCPUS; vcpu++) {
      const at = vcpu * VCPU_DOUBLES;
      sum.add(new Histogram(this.figures.subarray(at + 4, at + VCPU_DOUBLES)));
    }
    return sum;
  }
}

function makeBorrower(bed: Testbed, iommu: boolean): Domain {
  const kind = { name: 'borrower', hvm: true, hap: true, iommu, noSharept: false, deviceModel: true };
  const { domid = -1 } = hypercall(bed, bed.dom0, { op: 'createdomain', domid: 0, ...kind, vcpus: VCPUS });
  hypercall(bed, bed.dom0, { op: 'max_mem', domid, maxKb: 2 ** 20 });
  hypercall(bed, bed.dom0, { op: 'set_paging_mempool_size', domid, bytes: 1024 * 4096 });
  hypercall(bed, bed.dom0, { op: 'unpausedomain', domid });
  const d = bed.h.domain(domid);
  if (!d) throw new Error('the borrower was not created');
  return d;
}

const populate = (bed: Testbed, domid: number, order: number, start: number, pages: number): void => {
  const extents = { start, count: pages / 2 ** order };
  const { rc } = hypercall(bed, bed.dom0, { op: 'populate_physmap', domid, order, memFlags: 0, extents });
  if (rc !== extents.count) throw new Error(`populate_physmap: ${rc} of ${extents.count}`);
};

/** Virtual time of a stage, with the lender in the lead. */
export class VirtualBox {
  readonly buffer = new SharedArrayBuffer(VirtualTime.bytes(VCPUS + 1));
  readonly time: VirtualTime;

  constructor(stage: Stage, lock: number) {
    this.time = new VirtualTime(this.buffer, VCPUS + 1, 0, Object.values(stage.bed.h.shared.buffers), lock);
    this.time.reset();
  }
}

const sharingPolicies = (tables: 'separate' | 'shared'): ModelPolicies => ({
  ...defaultPolicies,
  iommuTables: tables,
  lendSharedTables: tables === 'shared' ? 'allow' : 'refuse',
});

/** The number of a domain's p2m lock, as steps name it. */
export function p2mLockOf(stage: Stage): number {
  const { h } = stage.bed;
  const rows = h.lockTable.profile();
  return rows.findIndex(({ name, scope }) => name === 'p2m' && scope === stage.borrower.slot);
}
