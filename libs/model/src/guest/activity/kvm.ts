// How it works without Xen: a KVM machine whose RAM is a process's memory. Its vCPUs take their faults themselves, stage 2 is filled
// from the page table by the same sequence protocol and emptied by the same callback; nobody lends, nobody pins, nothing is asked of
// another domain.
//
//   role 0       the kernel's memory management: moves pages and swaps them out
//   roles 1, 2   a vCPU of the machine each: writes its half of the memory, and reads what it wrote
import { createKvm, type KvmConfig, KvmMachine } from '../../kvm/machine.ts';
import { migratePage } from '../mm/migration.ts';
import { Mm } from '../mm/mm.ts';
import { createMm, defaultMm, type MmShared } from '../mm/mm-config.ts';
import { checkMm } from '../mm/mm-invariants.ts';
import { swapOut } from '../mm/reclaim.ts';
import { mmapPages } from '../mm/unmap.ts';
import { tagOf } from '../task.ts';
import { type ActivityContext, type ActivityKind, type Part, vcpuOfRole } from './activity.ts';
import { Random } from './random.ts';
import type { KvmSpec } from './spec.ts';

type Figure = 'accesses' | 'moves' | 'faults' | 'retries' | 'wrong';
interface Data {
  readonly mm: MmShared;
  readonly machine: SharedArrayBuffer;
}
type Context = ActivityContext<KvmSpec, Data, Figure>;

const ROLES = 3;
/** The kernel's pause between two moves, at most, in guest milliseconds: a page that never stays cannot be mapped either. */
const PAUSE_MS = 50;
/** Between two accesses of a vCPU. */
const ACCESS_MS = 1;
/** Where a signed 32-bit variable ends: the snapshot bug of the past shows from here on. */
const NEAR_SIGN = { lo: 0x7fff_fff0, hi: 0 };

function machineOf({ spec, sharing, data, vcpu, violation }: Context): { mm: Mm; kvm: KvmMachine } {
  const mm = new Mm(data.mm, vcpu, { violation });
  return { mm, kvm: new KvmMachine(mm, data.machine, machineConfig(spec, sharing.retryCheck === 'missing')) };
}

const machineConfig = ({ pages, snapshot }: KvmSpec, unchecked: boolean): KvmConfig => ({
  machine: 0,
  slot: { gfn: 0, page: 0, count: pages },
  vcpus: 2,
  snapshot,
  retryCheck: unchecked ? 'missing' : 'under-lock',
});

class MachineVcpu implements Part {
  private readonly c: Context;
  private readonly number: number;
  private readonly mm: Mm;
  private readonly kvm: KvmMachine;
  private readonly random: Random;
  private readonly last: number[];
  private written = 0;

  constructor(c: Context, number: number) {
    this.c = c;
    this.number = number;
    ({ mm: this.mm, kvm: this.kvm } = machineOf(c));
    this.random = new Random(c.task.seed + number + 1);
    this.last = new Array<number>(c.spec.pages).fill(0);
  }

  slice(now: number): number {
    const { board, spec } = this.c;
    if (board.enough) return Number.POSITIVE_INFINITY;
    const gfn = this.random.below(spec.pages / 2) * 2 + this.number;
    const { faults, retries } = this.kvm;
    if (this.random.below(2) === 0) this.write(gfn);
    else this.check(gfn);
    board.add('accesses');
    board.add('faults', this.kvm.faults - faults);
    board.add('retries', this.kvm.retries - retries);
    // A fault that is told to retry has made no entry.
    board.attempt(this.kvm.faults - faults - (this.kvm.retries - retries));
    return now + ACCESS_MS;
  }

  private write(gfn: number): void {
    const tag = tagOf(this.c.task.seed, gfn, this.written++);
    if (this.kvm.access(this.number, gfn, true, tag) === 0) this.last[gfn] = tag;
  }

  private check(gfn: number): void {
    const { board, violation } = this.c;
    if (this.kvm.access(this.number, gfn, false) !== 0) return;
    const found = this.kvm.stage2.tag;
    const expected = this.last[gfn] ?? 0;
    if (found === expected) return;
    board.add('wrong');
    this.last[gfn] = found;
    const text = `the virtual machine wrote ${expected.toString(16)} at gfn ${gfn.toString(16)}, and finds ${found.toString(16)}`;
    violation({ invariant: 'noWriteLost', text, evidence: { gfn, expected, found } });
  }
}

class PageMover implements Part {
  private readonly c: Context;
  private readonly mm: Mm;
  private readonly random: Random;

  constructor(c: Context) {
    this.c = c;
    ({ mm: this.mm } = machineOf(c));
    this.random = new Random(c.task.seed + 99);
  }

  open(): string | null {
    const { pages } = this.c.spec;
    mmapPages(this.mm, { kind: 'ram', start: 0, end: pages, writable: true });
    return null;
  }

  slice(now: number): number {
    const { board, spec } = this.c;
    const page = this.random.below(spec.pages);
    const rc = this.random.below(3) === 0 ? swapOut(this.mm, page) : migratePage(this.mm, page, 'ram');
    if (rc === 0) board.add('moves');
    return now + this.random.below(PAUSE_MS);
  }

  close(): void {
    for (const v of checkMm(this.mm)) this.c.violation(v);
  }
}

export const kvm: ActivityKind<KvmSpec, Data, Figure> = {
  figures: ['accesses', 'moves', 'faults', 'retries', 'wrong'],
  roles: ROLES,
  sleepers: [],
  boot: (spec, { guest }) => {
    const tasks = Array.from({ length: guest.vcpus }, (_, vcpu) => `vcpu${vcpu}`);
    tasks[vcpuOfRole(guest.vcpus, ROLES, 0)] = 'kswapd';
    const frames = { ram: 2 * spec.pages, vram: 0, slot: 0 };
    const mm = createMm({ ...defaultMm, tasks, pages: spec.pages, frames, machines: 1 });
    const first = spec.snapshot === 'int32' ? NEAR_SIGN : undefined;
    return { mm, machine: createKvm(machineConfig(spec, false), first) };
  },
  part: (context, role) => (role === 0 ? new PageMover(context) : new MachineVcpu(context, role - 1)),
};
