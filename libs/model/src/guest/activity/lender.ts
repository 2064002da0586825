// A backend that shows a buffer to a guest, in a kernel that goes on moving its memory. Lent with a notifier, each page moves when
// its kernel likes and comes back when the guest touches it; in every other way (policy `share`, `mapping`) the pages are shown once.
//
//   role 0   the kernel's memory management: moves pages between RAM and the GPU's memory, over and over
//   role 1   the backend: answers the guest's faults
import { errnoName } from '../../hypercall/errno.ts';
import { cpuAccess } from '../mm/faults.ts';
import { migratePage } from '../mm/migration.ts';
import { Mm } from '../mm/mm.ts';
import { checkMm } from '../mm/mm-invariants.ts';
import { SharedBuffer } from '../mm/shared-buffer.ts';
import { mmapPages, munmap } from '../mm/unmap.ts';
import { VirtioGpuBackend } from '../mm/virtio-gpu-backend.ts';
import { tagOf } from '../task.ts';
import type { ActivityContext, ActivityKind, Part } from './activity.ts';
import { bootProcess, type ProcessData, processMemory } from './mm-place.ts';
import { Random } from './random.ts';
import type { LenderSpec, SharingPolicies } from './spec.ts';

type Figure = 'moves' | 'refused' | 'lookups' | 'lent' | 'revoked' | 'kept';
type Context = ActivityContext<LenderSpec, ProcessData, Figure>;

const DRIVER = 0;
/** One move in so many is of a page that nobody shares. */
const OWN_EVERY = 8;
/** How often the backend looks whether the guest has mapped its grants, in guest milliseconds. */
const HANDSHAKE_MS = 20;
/** Notes on the board. */
const SUBSCRIPTION = 0;

/** As proposed: what moves is lent again on a fault. */
const lendsOnFault = ({ share, mapping }: SharingPolicies): boolean => share === 'lend' && mapping === 'notifier';
/** A GPU's memory cannot be pinned, and has no page that a grant could be made of. */
const kindOf = (sharing: SharingPolicies): 'vram' | 'ram' => (lendsOnFault(sharing) ? 'vram' : 'ram');

function kernelOf({ data, task, vcpu, unusedGfn, violation }: Context) {
  const memory = processMemory(data, task.port, unusedGfn);
  return { memory, mm: new Mm(data.mm, vcpu, { violation }, memory) };
}

function backendOf(c: Context, { mm, memory }: ReturnType<typeof kernelOf>): VirtioGpuBackend {
  const { spec, sharing, board } = c;
  return new VirtioGpuBackend(mm, c.task.port, memory, {
    driver: DRIVER,
    domid: board.peer(0),
    gfn: spec.window,
    page: 0,
    count: spec.pages,
    retryCheck: sharing.retryCheck,
    onFailure: 'zero-page',
  });
}

/** Role 0. Every page of the buffer, and as many more that nobody shares: what is freed of one is soon the other's. */
class MemoryManagement implements Part {
  private readonly c: Context;
  private readonly kernel: ReturnType<typeof kernelOf>;
  private readonly backend: VirtioGpuBackend | null;
  private readonly buffer: SharedBuffer | null;
  private readonly random: Random;
  /** What the pages that nobody shares hold. */
  private readonly own: number[];
  private written = 0;
  private taken = false;

  constructor(c: Context) {
    const { spec, sharing, board, unusedGfn, task } = c;
    this.own = new Array<number>(spec.pages).fill(0);
    this.c = c;
    this.kernel = kernelOf(c);
    this.random = new Random(task.seed + 1);
    this.backend = lendsOnFault(sharing) ? backendOf(c, this.kernel) : null;
    this.buffer = this.backend
      ? null
      : new SharedBuffer(this.kernel.mm, task.port, this.kernel.memory, {
          driver: DRIVER,
          share: sharing.share,
          mapping: sharing.mapping,
          domid: board.peer(0),
          gfn: spec.window,
          page: 0,
          count: spec.pages,
          tableGfn: unusedGfn + 1,
        });
  }

  open(): string | null {
    const { spec, sharing, board } = this.c;
    const { mm } = this.kernel;
    mmapPages(mm, { kind: kindOf(sharing), start: 0, end: spec.pages, writable: true });
    mmapPages(mm, { kind: 'ram', start: spec.pages, end: 2 * spec.pages, writable: true });
    const rc = this.backend ? this.backend.open() : (this.buffer?.open() ?? 0);
    board.setNote(SUBSCRIPTION, rc);
    return rc < 0 ? `the buffer cannot be shown to d${board.peer(0)}: ${errnoName(rc)}` : null;
  }

  slice(now: number): number {
    const { board, spec } = this.c;
    const { mm } = this.kernel;
    if (board.enough) return Number.POSITIVE_INFINITY;
    this.taken ||= this.buffer?.isTaken ?? true;
    if (!this.taken) return now + HANDSHAKE_MS;
    const own = this.random.below(OWN_EVERY) === 0;
    const page = this.random.below(spec.pages) + (own ? spec.pages : 0);
    if (own) this.useOwn(page);
    const to = page < spec.pages && this.random.below(2) === 0 ? 'vram' : 'ram';
    const rc = migratePage(mm, page, to);
    if (page < spec.pages) {
      board.add(rc === 0 ? 'moves' : 'refused');
      if (this.buffer) board.attempt();
    }
    this.count();
    return now;
  }

  /** The kernel's other memory: nobody but it writes there. */
  private useOwn(page: number): void {
    const { spec, violation, task } = this.c;
    const { mm } = this.kernel;
    const i = page - spec.pages;
    const expected = this.own[i] ?? 0;
    const { rc, tag: found } = cpuAccess(mm, page);
    if (rc === 0 && found !== expected) {
      const text = `page ${page} of the backend's own memory held ${expected.toString(16)}, and is ${found.toString(16)}: somebody else wrote`;
      violation({ invariant: 'noWriteLost', text, evidence: { page, expected, found } });
    }
    this.own[i] = tagOf(task.seed, page, this.written++);
    cpuAccess(mm, page, this.own[i]);
  }

  private count(): void {
    const { board } = this.c;
    if (this.backend) board.add('revoked', this.backend.revoked);
    if (this.backend) this.backend.revoked = 0;
    if (this.buffer) board.add('kept', this.buffer.kept);
    if (this.buffer) this.buffer.kept = 0;
  }

  close(): void {
    const { board, spec, violation } = this.c;
    const { mm } = this.kernel;
    if (this.backend) this.backend.close(board.note(SUBSCRIPTION));
    this.buffer?.close();
    for (const v of checkMm(mm)) violation(v);
    munmap(mm, 0);
    munmap(mm, spec.pages);
  }
}

/** Role 1. It sleeps in Xen until a fault comes in. */
class FaultServer implements Part {
  private readonly c: Context;
  private readonly backend: VirtioGpuBackend | null;

  constructor(c: Context) {
    this.c = c;
    this.backend = lendsOnFault(c.sharing) ? backendOf(c, kernelOf(c)) : null;
  }

  slice(now: number): number {
    const { backend } = this;
    const { board } = this.c;
    if (!backend) return Number.POSITIVE_INFINITY;
    const { lookups, lent } = backend;
    backend.serveFaults(board.note(SUBSCRIPTION), true);
    board.attempt(backend.lookups - lookups);
    board.add('lookups', backend.lookups - lookups);
    board.add('lent', backend.lent - lent);
    return now;
  }
}

export const lender: ActivityKind<LenderSpec, ProcessData, Figure> = {
  figures: ['moves', 'refused', 'lookups', 'lent', 'revoked', 'kept'],
  roles: 2,
  sleepers: [1],
  boot: ({ pages }, place) =>
    bootProcess(
      {
        pages: 2 * pages,
        frames: { ram: 3 * pages, vram: pages, slot: 0 },
        drivers: ['virtio-gpu'],
      },
      place,
    ),
  part: (context, role) => (role === 0 ? new MemoryManagement(context) : new FaultServer(context)),
};
