// The shared GPU itself: one access to graphics memory at a time, on behalf of one guest's context. It looks into its own TLB,
// walks the shadow tables (or the global table), and sends what it found through the IOMMU as any device does. Hardware: it
// takes no lock, waits for nobody, and does not know what a bus frame stands for.
import type { Domid } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { DmaThread } from '../iommu/dma.ts';
import { bank } from '../iommu/translation-cache.ts';
import { counter } from '../shared-memory/counters.ts';
import { load } from '../shared-memory/slots.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { CONTEXT_CELLS, CONTEXTS_PER_VM, contextCell, type GpuState, VM_CELLS, vmCell } from './gpu-memory.ts';
import { apertureGma } from './graphics-memory.ts';
import { ENTRIES, entryIndex, pteFrame, ptePresent, pteWritable } from './pte.ts';

const C_ACCESS = counter('gpu.access');
const C_FAULT = counter('gpu.fault');
const C_HIT = counter('gpu.tlbHit');
const C_WALK = counter('gpu.walk');

/** No such entry in the GPU's own tables: the access never left it. A positive answer is the IOMMU's fault reason. */
export const GPU_PAGE_FAULT = -1;
/** The global table, as context of an access. */
export const GLOBAL = -1;

export interface Access {
  /** Domain slot of the guest whose work it is. */
  readonly slot: number;
  readonly context: number;
  /** Page of graphics memory. */
  readonly page: number;
  readonly write: boolean;
  readonly tag: number;
}

export class GpuEngine {
  readonly dma: DmaThread;
  private readonly h: Host;
  private readonly gpu: GpuState;
  private readonly thread: number;

  /** `thread`: the DMA thread it runs on. */
  constructor(h: Host, gpu: GpuState, thread: number) {
    this.h = h;
    this.gpu = gpu;
    this.thread = thread;
    this.dma = new DmaThread(h, thread);
  }

  /** 0, GPU_PAGE_FAULT, or the IOMMU's reason. What a read found is in `dma.tag`. */
  access(a: Access): number {
    const { h, gpu } = this;
    h.counters.add(C_ACCESS);
    gpu.inFlight.open(this.thread, 0);
    try {
      const pte = this.translate(a);
      if (!ptePresent(pte) || (a.write && !pteWritable(pte))) {
        h.counters.add(C_FAULT);
        return GPU_PAGE_FAULT;
      }
      this.dma.onBehalfOf = ((gpu.vms[a.slot * VM_CELLS + vmCell.domid] as number) - 1) as Domid;
      return this.dma.transaction(gpu.config.sbdf, pteFrame(pte), a.write ? 'w' : 'r', a.tag);
    } finally {
      this.dma.onBehalfOf = -1;
      gpu.inFlight.close(this.thread);
    }
  }

  /** A CPU's access to an address of the aperture, by the guest in `slot`: outside its slice nothing answers (-1). */
  aperture(slot: number, address: number, write: boolean, tag: number): number {
    const cells = this.gpu.vms.subarray(slot * VM_CELLS, (slot + 1) * VM_CELLS);
    const mappable = { base: cells[vmCell.lowBase] as number, size: cells[vmCell.lowSize] as number };
    const page = apertureGma(this.gpu.config, { mappable, unmappable: { base: 0, size: 0 } }, address);
    return page < 0 ? GPU_PAGE_FAULT : this.access({ slot, context: GLOBAL, page, write, tag });
  }

  private translate(a: Access): number {
    const { tlb } = this.gpu;
    const id = this.gpu.tlbId(a.slot, a.context);
    const { sequence } = tlb;
    const cached = tlb.lookup(bank.leaf4k, id, a.page);
    if (cached >= 0) {
      this.h.counters.add(C_HIT);
      return cached;
    }
    this.h.counters.add(C_WALK);
    const pte = a.context === GLOBAL ? this.global(a.page) : this.walk(a);
    if (ptePresent(pte)) {
      step(stepKind.tlbFill, a.page);
      tlb.fill(bank.leaf4k, id, a.page, pte, 0, sequence);
    }
    return pte;
  }

  private global(page: number): number {
    step(stepKind.gpuWalk, page);
    return page >= 0 && page < this.gpu.config.gmPages ? load(this.gpu.ggtt, page) : 0;
  }

  private walk({ slot, context, page }: Access): number {
    const { contexts, shadow } = this.gpu;
    const at = (slot * CONTEXTS_PER_VM + context) * CONTEXT_CELLS;
    const levels = contexts[at + contextCell.levels] as number;
    let table = (contexts[at + contextCell.table] as number) - 1;
    if (table < 0 || page >= ENTRIES ** levels) return 0;
    for (let level = levels; ; level--) {
      step(stepKind.gpuWalk, table);
      const pte = load(shadow, table * ENTRIES + entryIndex(page, level));
      if (level === 1 || !ptePresent(pte)) return pte;
      table = pteFrame(pte);
    }
  }
}
