// All shared memory of mediated GPUs: the GPU's own (global table, TLB, accesses under way), the mediator's (shadow tables, which
// guest pages it tracks, frames it has mapped), and what passes between guests and it. One part per GPU. This file owns the
// layout; the rules stand beside it. Without a mediated GPU in the host's description nothing is allocated.
import type { FrameTable } from '../frames/frame-table.ts';
import type { HostConfig, MediatedGpuConfig } from '../host-config.ts';
import { InFlight } from '../iommu/in-flight.ts';
import { TranslationCache } from '../iommu/translation-cache.ts';
import { FrameMap } from './frame-map.ts';
import { GpuJobs } from './gpu-jobs.ts';
import { PageContents } from './page-contents.ts';
import { ENTRIES } from './pte.ts';

export type SharedDoubles = Float64Array<SharedArrayBuffer>;
export type SharedWords = Int32Array<SharedArrayBuffer>;

/** Page tables of its own that a guest can have at a time. */
export const CONTEXTS_PER_VM = 4;
/** Doubles of a tracked table, of a guest, of a page-table root, of a request. */
export const TRACKED_CELLS = 8;
export const VM_CELLS = 9;
export const CONTEXT_CELLS = 3;
export const REQUEST_CELLS = 4;
const REQUEST_WORDS = 2;
/** Behind the requests' words: whether somebody serves them, and the doorbell. */
const SERVING_AND_DOORBELL = 2;

/** Cells of a guest's record. */
export const vmCell = {
  domid: 0,
  lowBase: 1,
  lowSize: 2,
  highBase: 3,
  highSize: 4,
  server: 5,
  traps: 6,
  rebuild: 7,
  stale: 8,
} as const;
/** Cells of a page-table root: levels (0 = no such table), the guest's root page, record + 1 of its shadow (0 = none now). */
export const contextCell = { levels: 0, gfn: 1, table: 2 } as const;

interface Layout {
  readonly shadow: number;
  readonly seen: number;
  readonly tracked: number;
  readonly ggtt: number;
  readonly guestGgtt: number;
  readonly contexts: number;
  readonly vms: number;
  readonly frames: number;
  readonly frameCapacity: number;
  readonly requests: number;
  readonly jobs: number;
  readonly tlb: number;
  readonly window: number;
  readonly bfns: number;
  readonly windowCount: number;
  readonly requestWords: number;
  readonly inFlight: number;
  readonly tlbSequence: number;
  readonly bytes: number;
}

/** Places of a window that a mediator can have in use: one per shadowed frame and table. */
const frameCapacity = (gpu: MediatedGpuConfig): number =>
  2 ** Math.min(16, Math.ceil(Math.log2((gpu.tables * ENTRIES) / 4 + gpu.gmPages)));

function layoutOf(config: HostConfig, gpu: MediatedGpuConfig, start: number): Layout {
  let at = start;
  const take = (bytes: number): number => {
    const here = at;
    at += Math.ceil(bytes / 8) * 8;
    return here;
  };
  const doubles = (n: number): number => take(n * 8);
  const capacity = frameCapacity(gpu);
  return {
    shadow: doubles(gpu.tables * ENTRIES),
    seen: doubles(gpu.tables * ENTRIES),
    tracked: doubles(gpu.tables * TRACKED_CELLS),
    ggtt: doubles(gpu.gmPages),
    guestGgtt: doubles(gpu.gmPages),
    contexts: doubles(config.maxDomains * CONTEXTS_PER_VM * CONTEXT_CELLS),
    vms: doubles(config.maxDomains * VM_CELLS),
    frames: doubles(FrameMap.doubles(capacity)),
    frameCapacity: capacity,
    requests: doubles(config.maxDomains * REQUEST_CELLS),
    jobs: take(GpuJobs.bytes(config.maxDomains)),
    tlb: take(TranslationCache.bytes(1)),
    windowCount: capacity + gpu.tables,
    window: take((capacity + gpu.tables + 1) * 4),
    bfns: take((capacity + 1) * 4),
    requestWords: take((config.maxDomains * REQUEST_WORDS + SERVING_AND_DOORBELL) * 4),
    inFlight: take(InFlight.bytes(config.dmaThreads)),
    tlbSequence: take(8),
    get bytes() {
      return at;
    },
  };
}

/** One GPU's part. */
export class GpuState {
  readonly index: number;
  readonly config: MediatedGpuConfig;
  /** What the GPU walks: a page of 512 entries per tracked table. */
  readonly shadow: SharedDoubles;
  /** The guest's entries that the shadow was last made from. */
  readonly seen: SharedDoubles;
  readonly tracked: SharedDoubles;
  /** Entries of the one global table in hardware, and as each guest wrote those of its slices. */
  readonly ggtt: SharedDoubles;
  readonly guestGgtt: SharedDoubles;
  readonly contexts: SharedDoubles;
  readonly vms: SharedDoubles;
  readonly frames: FrameMap;
  readonly requests: SharedDoubles;
  /** State and kind per domain slot, whether somebody serves them, then the doorbell (all atomic). */
  readonly requestWords: SharedWords;
  /** What guests' drivers have submitted. */
  readonly jobs: GpuJobs;
  readonly tlb: TranslationCache;
  /** Accesses of the GPU under way, from the look into its TLB to the end of the DMA. */
  readonly inFlight: InFlight;
  /** Places of the mediator's gfn window and of its bus frames that are in use; the last word is where to look next. */
  readonly window: SharedWords;
  readonly bfns: SharedWords;

  constructor(buffer: SharedArrayBuffer, host: HostConfig, index: number, at: Layout) {
    const config = (host.mediatedGpus ?? [])[index] as MediatedGpuConfig; // index counts them
    const doubles = (start: number, n: number): SharedDoubles => new Float64Array(buffer, start, n);
    this.index = index;
    this.config = config;
    this.shadow = doubles(at.shadow, config.tables * ENTRIES);
    this.seen = doubles(at.seen, config.tables * ENTRIES);
    this.tracked = doubles(at.tracked, config.tables * TRACKED_CELLS);
    this.ggtt = doubles(at.ggtt, config.gmPages);
    this.guestGgtt = doubles(at.guestGgtt, config.gmPages);
    this.contexts = doubles(at.contexts, host.maxDomains * CONTEXTS_PER_VM * CONTEXT_CELLS);
    this.vms = doubles(at.vms, host.maxDomains * VM_CELLS);
    this.frames = new FrameMap(doubles(at.frames, FrameMap.doubles(at.frameCapacity)), at.frameCapacity);
    this.requests = doubles(at.requests, host.maxDomains * REQUEST_CELLS);
    this.window = new Int32Array(buffer, at.window, at.windowCount + 1);
    this.bfns = new Int32Array(buffer, at.bfns, at.frameCapacity + 1);
    this.requestWords = new Int32Array(buffer, at.requestWords, host.maxDomains * REQUEST_WORDS + SERVING_AND_DOORBELL);
    this.jobs = new GpuJobs(buffer, at.jobs, host.maxDomains);
    this.tlb = new TranslationCache(buffer, at.tlb, 1, new Int32Array(buffer, at.tlbSequence, 2));
    this.inFlight = new InFlight(buffer, at.inFlight, host.dmaThreads);
  }

  /** Id under which the GPU caches translations of a guest's context; `context` -1: the global table, as this guest uses it. */
  tlbId(slot: number, context: number): number {
    return slot * (CONTEXTS_PER_VM + 1) + context + 1;
  }
}

const gpusOf = (config: HostConfig): readonly MediatedGpuConfig[] => config.mediatedGpus ?? [];

/** Tables of guests, tracked or not yet, on any GPU. */
const contentPages = (config: HostConfig): number => gpusOf(config).reduce((sum, gpu) => sum + gpu.tables * 2, 0);

export class GpuMemory {
  static bytes(config: HostConfig): number {
    let at = PageContents.bytes(contentPages(config), config.frames);
    at = Math.ceil(at / 8) * 8;
    for (const gpu of gpusOf(config)) at = layoutOf(config, gpu, at).bytes;
    return at;
  }

  readonly contents: PageContents;
  readonly all: readonly GpuState[];

  constructor(buffer: SharedArrayBuffer, config: HostConfig, frames: FrameTable) {
    const pages = contentPages(config);
    this.contents = new PageContents(buffer, 0, pages, frames, config.frames);
    let at = Math.ceil(PageContents.bytes(pages, config.frames) / 8) * 8;
    this.all = gpusOf(config).map((gpu, index) => {
      const layout = layoutOf(config, gpu, at);
      at = layout.bytes;
      return new GpuState(buffer, config, index, layout);
    });
  }
}
