// dom0's kernel with a virtio-GPU backend that lends, a guest that uses what it is lent, and tasks that move the memory: each a
// thread (lender-worker.ts). A third of the story is Xen's, a third dom0's, a third the guest's.
import { Worker } from 'node:worker_threads';
import type { Domain } from '#model/domain/domain';
import { Mm } from '#model/guest/mm/mm';
import { createMm, defaultMm, type MmShared } from '#model/guest/mm/mm-config';
import { mmapPages } from '#model/guest/mm/unmap';
import { VirtioGpuBackend, type VirtioGpuConfig } from '#model/guest/mm/virtio-gpu-backend';
import type { VmaKind } from '#model/guest/mm/vma';
import { XenMemory } from '#model/guest/mm/xen-memory';
import { Host, type HostShared, type Violation } from '#model/host';
import { DirectPort } from './direct-port.ts';
import { bootTestbed, hypercall, makeGuest, type Testbed } from './hypercall-fixture.ts';

export const PAGES = 8;
const FRAMES = { ram: 12, vram: 8, slot: 0 };
/** dom0's RAM for it, and the GPU's memory: RAM as well, since the model keeps no contents behind a BAR. */
const BASES = { ram: 0x100, vram: 0x200, slot: 0 };
export const WINDOW = 0x4000;
export const TASKS = ['main', 'serve', 'churn', 'churn'];
export const GUEST_CPU = 4;

export const lenderWord = {
  stop: 0,
  ready: 1,
  accesses: 2,
  wrong: 3,
  moves: 4,
  lent: 5,
  revoked: 6,
  violations: 7,
  stale: 8,
  injected: 9,
  idle: 10,
} as const;
export type LenderRole = 'serve' | 'churn' | 'file-churn' | 'guest';

export interface LenderShared {
  readonly host: HostShared;
  readonly mm: MmShared;
  readonly backend: VirtioGpuConfig;
  readonly sub: number;
  readonly control: SharedArrayBuffer;
}

export interface LenderWork {
  readonly lender: LenderShared;
  readonly cpu: number;
  readonly role: LenderRole;
  readonly seed: number;
}

export interface LenderView {
  readonly h: Host;
  readonly mm: Mm;
  readonly backend: VirtioGpuBackend;
}

/** One task's view: dom0's vCPU on that CPU, its kernel, the backend. */
export function attachLender(
  h: Host,
  dom0: Domain,
  shared: Pick<LenderShared, 'mm' | 'backend'>,
  task: number,
  violation: (v: Violation) => void,
  stopped: () => boolean,
): LenderView {
  const port = new DirectPort(h, dom0, stopped);
  const memory = new XenMemory(port, BASES, FRAMES);
  const mm = new Mm(shared.mm, task, { violation }, memory);
  return { h, mm, backend: new VirtioGpuBackend(mm, port, memory, shared.backend) };
}

export class Lender {
  readonly bed: Testbed;
  readonly guest: Domain;
  readonly view: LenderView;
  readonly shared: LenderShared;
  readonly seen: Violation[] = [];
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly ended: Promise<void>[] = [];

  constructor(kind: VmaKind, some: Partial<VirtioGpuConfig>) {
    this.bed = bootTestbed({ pcpus: GUEST_CPU + 1 });
    this.guest = makeGuest(this.bed);
    for (const [start, count] of [[BASES.ram, FRAMES.ram] as const, [BASES.vram, FRAMES.vram] as const]) {
      const extents = { start, count };
      hypercall(this.bed, this.bed.dom0, { op: 'populate_physmap', domid: 0, order: 0, memFlags: 0, extents });
    }
    const backend: VirtioGpuConfig = {
      driver: 0,
      domid: this.guest.domid,
      gfn: WINDOW,
      page: 0,
      count: PAGES,
      retryCheck: 'under-lock',
      onFailure: 'zero-page',
      ...some,
    };
    const control = new SharedArrayBuffer(64);
    this.words = new Int32Array(control);
    const mm = createMm({ ...defaultMm, tasks: TASKS, drivers: ['virtio-gpu'], pages: PAGES, frames: FRAMES });
    const { h, dom0 } = this.bed;
    this.view = attachLender(
      h,
      dom0,
      { mm, backend },
      0,
      (v) => this.seen.push(v),
      () => false,
    );
    mmapPages(this.view.mm, { kind, start: 0, end: PAGES, writable: true });
    const sub = this.view.backend.open();
    if (sub < 0) throw new Error(`lend_open: ${sub}`);
    this.shared = { host: h.shared, mm, backend, sub, control };
  }

  read(word: keyof typeof lenderWord): number {
    return Atomics.load(this.words, lenderWord[word]);
  }

  async start(role: LenderRole, cpu: number, seed: number): Promise<void> {
    const before = this.read('ready');
    const workerData: LenderWork = { lender: this.shared, cpu, role, seed };
    const worker = new Worker(new URL('./lender-worker.ts', import.meta.url), {
      workerData,
      execArgv: ['--conditions=source'],
    });
    const ended = new Promise<void>((resolve, reject) => {
      worker.once('exit', () => resolve());
      worker.once('error', reject);
    });
    this.ended.push(ended);
    const ready = Atomics.waitAsync(this.words, lenderWord.ready, before);
    await Promise.race([ready.async ? ready.value : null, ended]);
  }

  async runUntil(done: () => boolean, ms: number): Promise<void> {
    const end = performance.now() + ms;
    while (!done() && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
  }

  async stop(): Promise<void> {
    Atomics.store(this.words, lenderWord.stop, 1);
    await Promise.all(this.ended);
  }
}
