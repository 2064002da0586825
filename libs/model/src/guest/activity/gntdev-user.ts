// A process that maps granted pages (gntdev), has a device work on them and unmaps them: one use after the other, each as a process of
// its own. Direct I/O refers to the pages until the device is done; a GPU's driver keeps its references until its callback is called.
//
//   role 0   the process: mmap, the device's work, munmap; tells the frontend
//   role 1   the device
//   role 2   gntdev's worker, which unmaps when nobody refers to the pages any more
import { errnoName } from '../../hypercall/errno.ts';
import { HostPanic } from '../../shared-memory/panic.ts';
import type { FrameIndex } from '../mm/frame-pools.ts';
import { Gntdev } from '../mm/gntdev.ts';
import { gntdevBytes } from '../mm/gntdev-state.ts';
import { GpuEngine } from '../mm/gpu-engine.ts';
import { getUserPages, putUserPages } from '../mm/gup.ts';
import { Mm } from '../mm/mm.ts';
import { renewMm } from '../mm/mm-config.ts';
import { munmap } from '../mm/unmap.ts';
import { Userptr } from '../mm/userptr.ts';
import { type UserptrConfig, userptrBytes, userptrDefaults } from '../mm/userptr-state.ts';
import { tagOf } from '../task.ts';
import { type ActivityContext, type ActivityKind, type Part, vcpuOfRole } from './activity.ts';
import { bootProcess, type ProcessData, processMemory } from './mm-place.ts';
import { Random } from './random.ts';
import { firstRef, RING_REF, Ring, ringState, SETS } from './ring.ts';
import { type GntdevSpec, type SharingPolicies, todaysSharing } from './spec.ts';

type Figure = 'uses' | 'hung' | 'jobs' | 'writes';
interface Data extends ProcessData {
  readonly gntdev: SharedArrayBuffer;
  readonly gpu: SharedArrayBuffer;
}
type Context = ActivityContext<GntdevSpec, Data, Figure>;

const ROLES = 3;
const GNTDEV = 0;
const GPU = 1;
const GNTMAP_host_map = 2;
const PAGE = 4096;
/** Where in the process the grants are mapped. */
const AT = 0;
/** Slots of the activity: the ring's, then those of the grants. */
const FIRST_SLOT = 16;
/** How often a role looks for something to do, and how long a device works, in guest milliseconds. */
const POLL_MS = 10;
const IO_MS = 300;

/**
 * Notes on the board: uses begun and ended, those that the other roles have let go of, direct I/O asked for and done, the vCPU of role
 * 1, frames of the I/O.
 */
const note = { begun: 0, ended: 1, letGo: 2, asked: 4, done: 5, engine: 6, frames: 8 } as const;

const gpuConfig = ({ pages }: GntdevSpec, { gpuCallback }: SharingPolicies, engine: number): UserptrConfig => ({
  ...userptrDefaults,
  driver: GPU,
  engine,
  pages: 'gup',
  pagesPerBuffer: pages,
  gpuFaults: 'recoverable',
  onInvalidate: gpuCallback === 'fence' ? 'wait' : 'zap',
});

/** The process of one use, as one role sees it. */
class Process {
  readonly mm: Mm;
  readonly gntdev: Gntdev;
  readonly gpu: Userptr;

  constructor({ data, task, vcpu, unusedGfn, violation, sharing, spec, board }: Context) {
    const memory = processMemory(data, task.port, unusedGfn + FIRST_SLOT);
    this.mm = new Mm(data.mm, vcpu, { violation }, memory);
    const unmap = sharing.gntdevUnmap;
    this.gntdev = new Gntdev(this.mm, data.gntdev, task.port, memory, { driver: GNTDEV, unmap });
    this.gpu = new Userptr(this.mm, data.gpu, gpuConfig(spec, sharing, board.note(note.engine)));
  }
}

class GrantUser implements Part {
  private readonly c: Context;
  private readonly ring: Ring;
  private readonly random: Random;
  private process: Process | null = null;
  private map = -1;
  private use = 0;
  private ringHandle = 0;

  constructor(c: Context) {
    this.c = c;
    this.ring = new Ring(c.task.port, c.unusedGfn);
    this.random = new Random(c.task.seed + 5);
  }

  open(): string | null {
    const { task, unusedGfn, board, data } = this.c;
    const ops = [{ hostAddr: unusedGfn * PAGE, flags: GNTMAP_host_map, ref: RING_REF, domid: board.peer(0) }];
    const { results = [] } = task.port.call({ op: 'gnttab_map_grant_ref', ops });
    const status = results[0]?.status ?? -1;
    if (status !== 0) return `the ring of d${board.peer(0)} cannot be mapped: ${status}`;
    this.ringHandle = results[0]?.handle ?? 0;
    board.setNote(note.engine, vcpuOfRole(data.mm.config.tasks.length, ROLES, 1));
    return null;
  }

  slice(now: number): number {
    const { board } = this.c;
    if (this.process) return this.leave(now);
    if (board.enough) return Number.POSITIVE_INFINITY;
    const { use, state } = this.ring.read();
    if (use <= this.use || state !== ringState.granted) return now + POLL_MS;
    this.begin(use);
    return now;
  }

  /** The roles are at rest: a new process. */
  private begin(use: number): void {
    const { board, data } = this.c;
    this.use = use;
    renewMm(data.mm);
    for (const buffer of [data.gntdev, data.gpu]) new Uint8Array(buffer).fill(0);
    this.process = new Process(this.c);
    board.add('uses');
    try {
      this.work(this.process, use);
    } catch (error) {
      if (!(error instanceof HostPanic)) throw error;
      // It hangs, and its kernel with it; Xen has its grants back when that is started again.
      board.add('hung');
      board.setNote(note.ended, use);
    }
  }

  private work(process: Process, use: number): void {
    const { spec, board } = this.c;
    const { mm, gntdev } = process;
    const refs = Array.from({ length: spec.pages }, (_, i) => firstRef(use, spec.pages) + i);
    this.map = gntdev.addMap(board.peer(0), refs);
    const rc = gntdev.mmap(this.map, AT);
    if (rc !== 0) mm.panicCell.panic(`the grants of use ${use} cannot be mapped: ${errnoName(rc)}`);
    if (spec.use === 'gpu') this.useGpu(process, use);
    else this.readFromDisk(process, use);
    munmap(mm, AT);
    gntdev.close(this.map);
    this.ring.write({ use, state: ringState.unmapped });
  }

  /** The GPU's driver keeps its references for the next job. A process may wait for its picture, or close its window at once. */
  private useGpu({ mm, gpu }: Process, use: number): void {
    const { spec, board, task } = this.c;
    const buffer = gpu.create(AT, spec.pages, true);
    board.setNote(note.begun, use);
    const fence = gpu.submit(buffer, true, tagOf(task.seed, 1, use));
    board.add('jobs');
    if (fence > 0 && this.random.below(2) === 0) mm.fences.wait(fence);
  }

  /** O_DIRECT: the device writes into the pages; whoever asked for it does not wait. */
  private readFromDisk({ mm }: Process, use: number): void {
    const { spec, board } = this.c;
    const { frames } = getUserPages(mm, AT, spec.pages, { write: true, pin: true });
    for (const [i, frame] of frames.entries()) board.setNote(note.frames + i, frame + 1);
    board.setNote(note.asked, use);
    board.setNote(note.begun, use);
  }

  /** Until nothing of the process is left: then the others let go of it as well. */
  private leave(now: number): number {
    const { board, spec } = this.c;
    const { process, use } = this;
    if (!process) return now;
    if (board.note(note.ended) !== use) {
      const busy =
        process.gntdev.state.get(this.map, 'live') > 0 || (spec.use === 'io' && board.note(note.done) !== use);
      if (busy && process.mm.panicCell.message() === null) return now + POLL_MS;
      board.setNote(note.ended, use);
    }
    if (board.note(note.letGo) !== use || board.note(note.letGo + 1) !== use) return now + POLL_MS;
    if (process.mm.panicCell.message() !== null) this.cleanUp(process, use);
    this.process = null;
    board.attempt(spec.pages);
    return now;
  }

  private cleanUp(process: Process, use: number): void {
    process.gntdev.releaseAll();
    this.ring.write({ use, state: ringState.unmapped });
  }

  close(): void {
    const { task, unusedGfn } = this.c;
    if (this.process) this.process.gntdev.releaseAll();
    const ops = [{ hostAddr: unusedGfn * PAGE, devBusAddr: 0, handle: this.ringHandle }];
    task.port.call({ op: 'gnttab_unmap_grant_ref', ops });
  }
}

/** What roles 1 and 2 have in common: from the moment a use is begun to its end they work on its process. */
abstract class Helper implements Part {
  protected readonly c: Context;
  protected process: Process | null = null;
  protected use = 0;
  private readonly letGo: number;

  constructor(c: Context, role: number) {
    this.c = c;
    this.letGo = note.letGo + role - 1;
  }

  protected abstract work(process: Process, now: number): number;

  slice(now: number): number {
    const { board } = this.c;
    const begun = board.note(note.begun);
    if (begun > this.use) {
      this.use = begun;
      this.process = new Process(this.c);
    }
    if (board.note(note.ended) > board.note(this.letGo)) return this.leave(now);
    if (!this.process) return now + POLL_MS;
    try {
      return Math.min(this.work(this.process, now), now + POLL_MS);
    } catch (error) {
      if (!(error instanceof HostPanic)) throw error;
      this.process = null;
      return now;
    }
  }

  private leave(now: number): number {
    const { board } = this.c;
    this.process = null;
    this.use = board.note(note.ended);
    board.setNote(this.letGo, this.use);
    return now;
  }
}

class Device extends Helper {
  private due = 0;
  private at = -1;
  private engine: GpuEngine | null = null;

  protected override work(process: Process, now: number): number {
    return this.c.spec.use === 'gpu' ? this.runJob(process, now) : this.transfer(process, now);
  }

  private runJob({ mm, gpu }: Process, now: number): number {
    if (this.at !== this.use) this.engine = new GpuEngine(mm, gpu);
    this.at = this.use;
    return this.engine?.runJob() === true ? now : now + 1;
  }

  private transfer({ mm }: Process, now: number): number {
    const { board, spec, task } = this.c;
    if (board.note(note.asked) !== this.use || board.note(note.done) === this.use) return now + POLL_MS;
    if (this.at !== this.use) this.due = now + IO_MS;
    this.at = this.use;
    if (now < this.due) return this.due;
    const frames = Array.from({ length: spec.pages }, (_, i) => (board.note(note.frames + i) - 1) as FrameIndex); // as noted by role 0
    for (const frame of frames) mm.frames.setTag(frame, tagOf(task.seed, frame, this.use));
    board.add('writes', frames.length);
    putUserPages(mm, frames, true, true);
    board.setNote(note.done, this.use);
    return now;
  }
}

class Worker extends Helper {
  protected override work({ gntdev }: Process, now: number): number {
    return gntdev.runWork(now);
  }
}

export const gntdev: ActivityKind<GntdevSpec, Data, Figure> = {
  figures: ['uses', 'hung', 'jobs', 'writes'],
  roles: ROLES,
  sleepers: [],
  boot: (spec, place) => {
    const tasks = Array.from({ length: place.guest.vcpus }, (_, vcpu) => `vcpu${vcpu}`);
    for (const [role, name] of ['Xorg', spec.use === 'gpu' ? 'gpu-engine' : 'disk', 'gntdev-worker'].entries()) {
      tasks[vcpuOfRole(place.guest.vcpus, ROLES, role)] = name;
    }
    const frames = { ram: 0, vram: 0, slot: SETS * spec.pages };
    const drivers = ['gntdev', 'i915'];
    const process = bootProcess({ tasks, pages: 2 * spec.pages, frames, drivers }, place);
    const gpu = userptrBytes(gpuConfig(spec, place.guest.sharing ?? todaysSharing, 0));
    return {
      ...process,
      gntdev: new SharedArrayBuffer(gntdevBytes()),
      gpu: new SharedArrayBuffer(Math.ceil(gpu / 8) * 8),
    };
  },
  part: (context, role) => {
    if (role === 0) return new GrantUser(context);
    return role === 1 ? new Device(context, role) : new Worker(context, role);
  },
};
