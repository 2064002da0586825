// The GPU with SR-IOV: each guest has a function with a context entry and I/O tables of its own, so its GPU tables may hold what it
// wrote. Nothing is shadowed, nobody mediates: the function reads guest tables and pages alike by guest address, and the IOMMU
// keeps it in its guest's memory. Hardware, as gpu-engine.ts. Model: it has no TLB of its own; the unit's caches its addresses.
import type { Mfn, Sbdf } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { DmaThread } from '../iommu/dma.ts';
import { GPU_PAGE_FAULT } from './gpu-engine.ts';
import { entryIndex, isUsable, pteFrame, pteWritable } from './pte.ts';

export class VirtualFunction {
  readonly dma: DmaThread;
  private readonly h: Host;
  private readonly sbdf: Sbdf;

  constructor(h: Host, thread: number, sbdf: Sbdf) {
    this.h = h;
    this.sbdf = sbdf;
    this.dma = new DmaThread(h, thread);
  }

  /** One page of graphics memory through the table at guest page `root`. 0, GPU_PAGE_FAULT, or the IOMMU's reason. */
  access(root: number, levels: number, page: number, write: boolean, tag: number): number {
    let table = root;
    for (let level = levels; level >= 1; level--) {
      const reason = this.dma.transaction(this.sbdf, table, 'r', 0);
      if (reason !== 0) return reason;
      const pte = this.h.gpus.contents.read(this.dma.mfn as Mfn, entryIndex(page, level));
      if (!isUsable(pte) || (level === 1 && write && !pteWritable(pte))) return GPU_PAGE_FAULT;
      table = pteFrame(pte);
    }
    return this.dma.transaction(this.sbdf, table, write ? 'w' : 'r', tag);
  }
}
