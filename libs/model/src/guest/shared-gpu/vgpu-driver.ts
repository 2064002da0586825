// A guest's graphics driver on a GPU that is shared: it has a page table of four levels over some pages of its RAM, submits jobs that
// write them, and looks with the CPU for what the GPU wrote. It does not know whether its table is shadowed; it tells what a
// driver tells (roots, submissions), and Xen tells of memory that it gives up. A page that it takes back at the same gfn needs no
// word: its table still names it.
import { DOMID_SELF } from '../../frames/addresses.ts';
import { ENTRIES, entryIndex, PTE_PRESENT, PTE_WRITE } from '../../gpu/pte.ts';
import type { Answer, Call } from '../../hypercall/calls.ts';
import { errno } from '../../hypercall/errno.ts';
import type { GpuRequestKind, TableEntry } from '../../hypercall/gpu-calls.ts';
import { pageState } from '../guest-memory.ts';
import { type Task, type TaskContext, tagOf } from '../task.ts';
import type { GpuOrder, VgpuAct, VgpuWorkloadSpec } from './spec.ts';
import { Tally } from './tally.ts';

const TAG_SALT = 0x7690;
const LEVELS = 4;
const CONTEXT = 0;
const RW = PTE_PRESENT | PTE_WRITE;
/** Attempts of one slice, so that the kernel's other tasks get on. */
const SLICE = 4;
/** Attempts between two reports. */
const REPORT_EVERY = 20;

export class VgpuDriver implements Task {
  readonly id: string;
  readonly device: number;
  private readonly c: TaskContext;
  private readonly spec: VgpuWorkloadSpec;
  /** Root first, one page per level. */
  private readonly tables: readonly number[];
  /** What jobs write, and as many again for remap. */
  private readonly pages: readonly number[];
  private readonly queue: Tally[] = [];
  private built = false;
  private mediated = true;
  /** What its jobs found since it was told to run. */
  private running: Tally | null = null;
  private jobs = 0;
  /** Which half of its pages the table maps. */
  private half = 0;

  constructor(context: TaskContext, spec: VgpuWorkloadSpec) {
    this.id = spec.id;
    this.device = spec.device;
    this.c = context;
    this.spec = spec;
    const { memory } = context;
    const { firstGfn, frames, pagesGfn } = spec;
    this.tables = memory.allocUpFrom(firstGfn, LEVELS, pageState.dma);
    this.pages =
      pagesGfn === null
        ? memory.allocUpFrom(firstGfn + LEVELS, 2 * frames, pageState.dma)
        : Array.from({ length: 2 * frames }, (_, i) => pagesGfn + i);
  }

  request(order: GpuOrder): void {
    this.queue.push(new Tally(order));
  }

  /** Orders first; in between, while it was told to run, one job after the other. */
  step(now: number): number {
    const tally = this.queue[0];
    if (!tally) return this.renderOn(now);
    if (!this.ready()) tally.fail(-errno.ENOMEM);
    else if (!this.built) tally.fail(this.build());
    const what = tally.order.act.what as VgpuAct; // the kernel hands other orders to other tasks
    if (!tally.over) this.perform(what, tally);
    if (tally.over) this.queue.shift();
    if (tally.over || tally.made % REPORT_EVERY === 0) this.c.sink.event('gpuActivity', tally.figures);
    return now;
  }

  private renderOn(now: number): number {
    if (!this.running) return Number.POSITIVE_INFINITY;
    this.hear(this.c.port.multicall(this.render()), this.running);
    return now;
  }

  private ready(): boolean {
    return this.tables.length === LEVELS && this.pages.length === 2 * this.spec.frames;
  }

  private get mapped(): Uint32Array {
    const { frames } = this.spec;
    return Uint32Array.from(this.pages.slice(this.half * frames, (this.half + 1) * frames));
  }

  /** The table over the half of its pages that is in use, announced where somebody listens. 0 or the first error. */
  private build(): number {
    const links: TableEntry[] = [];
    for (let level = LEVELS; level > 1; level--) {
      const [gfn, frame] = [this.tables[LEVELS - level] as number, this.tables[LEVELS - level + 1] as number];
      links.push({ gfn, index: entryIndex(0, level), frame, bits: RW });
    }
    const [written, announced] = this.c.port.multicall([
      this.write([...links, ...this.leaves()]),
      this.ask('create-root', CONTEXT, this.tables[0]),
    ]);
    // As PVINFO tells a driver: with a function of its own nobody mediates.
    this.mediated = announced?.rc !== -errno.EOPNOTSUPP;
    const rc = written?.rc || (this.mediated ? (announced?.rc ?? 0) : 0);
    this.built = rc === 0;
    return rc;
  }

  private leaves(bits = RW): TableEntry[] {
    const leaf = this.tables[LEVELS - 1] as number; // ready() has looked
    return Array.from(this.mapped, (frame, i) => ({ gfn: leaf, index: i % ENTRIES, frame, bits }));
  }

  private write(entries: readonly TableEntry[]): Call {
    return { op: 'gpu_table_write', device: this.device, entries };
  }

  private ask(kind: GpuRequestKind, a = 0, b = 0): Call {
    return { op: 'gpu_request', device: this.device, kind, a, b };
  }

  /** What makes the tables ready for a job: nothing, with a function of one's own. */
  private submission(): Call[] {
    return this.mediated ? [this.ask('submit', CONTEXT)] : [];
  }

  private start(passes: number, tag: number): Call {
    const root = this.mediated ? CONTEXT : (this.tables[0] as number); // ready() has looked
    const { device } = this;
    return { op: 'gpu_job_start', device, root, page: 0, pages: this.spec.frames, write: true, tag, passes };
  }

  private wait(stop: boolean): Call {
    return { op: 'gpu_job_wait', device: this.device, stop };
  }

  private perform(what: VgpuAct, tally: Tally): void {
    switch (what) {
      case 'render':
        this.attempt(() => this.render(), tally);
        break;
      case 'remap':
        this.attempt(() => [...this.remap(), ...this.render()], tally);
        break;
      case 'balloon':
        this.balloon(tally);
        tally.made++;
        break;
      case 'run':
        this.running ??= new Tally(tally.order);
        tally.made++;
        break;
      case 'halt':
        tally.include(this.running);
        this.running = null;
        tally.made++;
        break;
      default:
        what satisfies never;
    }
  }

  /** As many attempts as one slice has. */
  private attempt(calls: () => Call[], tally: Tally): void {
    const count = Math.min(SLICE, tally.attempts - tally.made);
    const all = Array.from({ length: count }, calls).flat();
    this.hear(this.c.port.multicall(all), tally);
    tally.made += count;
  }

  private nextTag(): number {
    return tagOf(this.c.seed, TAG_SALT ^ this.device, this.jobs++);
  }

  /** A job over all pages, then the CPU looks at them. */
  private render(): Call[] {
    const tag = this.nextTag();
    return [
      ...this.submission(),
      this.start(1, tag),
      this.wait(false),
      { op: 'verify', frames: { frames: this.mapped }, tag },
    ];
  }

  /** Errors but those that a job reports, and what jobs and looks found. */
  private hear(answers: readonly Answer[], tally: Tally): void {
    for (const answer of answers) {
      if ('completed' in answer) tally.job(answer);
      else if ('bad' in answer) tally.looked(answer.bad ?? 0, answer.firstBad ?? -1);
      else if (answer.rc < 0) tally.fail(answer.rc);
    }
  }

  /** Under the GPU's hands a page goes to Xen, and another comes to the same gfn. */
  private balloon(tally: Tally): void {
    const victims = this.mapped;
    const frames = victims.slice(tally.made % victims.length, (tally.made % victims.length) + 1);
    const one = { domid: DOMID_SELF, order: 0, extents: { frames } };
    const { port } = this.c;
    this.hear(port.multicall([...this.submission(), this.start(0, this.nextTag())]), tally);
    const gone: Call[] = [{ op: 'decrease_reservation', ...one }, ...(this.mediated ? [this.ask('ballooned')] : [])];
    const answers = port.multicall([
      ...gone,
      { op: 'populate_physmap', memFlags: 0, ...one },
      ...this.submission(),
      this.wait(true),
      ...this.render(),
    ]);
    this.hear(answers, tally);
    if (answers[0]?.rc !== 1 || answers[gone.length]?.rc !== 1) tally.fail(-errno.ENOMEM);
  }

  /** The other half of its pages takes the place of this one. */
  private remap(): Call[] {
    const clear = this.write(this.leaves(0));
    this.half = 1 - this.half;
    return [clear, this.write(this.leaves())];
  }

  stop(): void {
    this.running = null;
    if (this.built && this.mediated) this.c.port.multicall([this.ask('destroy-root', CONTEXT)]);
    this.c.memory.freePages(this.spec.pagesGfn === null ? [...this.tables, ...this.pages] : this.tables);
  }
}
