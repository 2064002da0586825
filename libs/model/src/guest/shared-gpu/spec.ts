// What kernels are told about a GPU that dom0 shares: the tasks that use it, the orders that a scenario gives them, and what they
// report. Plain data, part of guest-spec.ts's; how any of it is done is in the files beside this one.

/** A guest's graphics driver on its part of a shared GPU: its page tables, jobs, and the memory they name. */
export interface VgpuWorkloadSpec {
  readonly id: string;
  readonly vcpu?: number;
  readonly kind: 'vgpu';
  readonly device: number;
  /** Its tables lie from here up, its pages behind them. */
  readonly firstGfn: number;
  /** Where the pages lie that another driver of the guest has taken, and it uses too: a buffer of two GPUs. null: its own. */
  readonly pagesGfn: number | null;
  /** Pages that its table maps. */
  readonly frames: number;
}

/** The mediator of one GPU, in dom0's kernel: it answers its guests and does nothing else on its vCPU. */
export interface MediatorWorkloadSpec {
  readonly id: string;
  readonly vcpu?: number;
  readonly kind: 'mediator';
  readonly device: number;
}

/**
 * Of a guest's driver. render: its GPU writes all pages, and the CPU looks whether it finds that there. balloon: the same, but before
 * it a page is given up and taken back while the GPU works. remap: the same, but before it the table is pointed at other pages.
 * run, halt: one render after the other until it is told to stop, which tells what they found.
 */
export type VgpuAct = 'render' | 'balloon' | 'remap' | 'run' | 'halt';
/**
 * Of a driver in dom0 with bus frames of its own under its device's DMA. reuse: each is mapped anew in the batch that unmaps it;
 * release: the pages are given up, and a batch unmaps them.
 */
export type BusAct = 'reuse' | 'release';

export type GpuAct =
  | { readonly what: VgpuAct; readonly attempts: number }
  /** To dom0: the guest gets, or loses, its virtual GPU. */
  | { readonly what: 'attach'; readonly domid: number; readonly mappable: number; readonly unmappable: number }
  | { readonly what: 'detach'; readonly domid: number }
  /** `running`: the device writes there while the batch runs, and not only before and after it. */
  | { readonly what: BusAct; readonly attempts: number; readonly firstBfn: number; readonly running: boolean };

export interface GpuOrder {
  readonly id: string;
  readonly device: number;
  readonly act: GpuAct;
}

/** What became of an order so far. */
export interface GpuFigures {
  readonly id: string;
  readonly device: number;
  readonly what: GpuAct['what'];
  readonly over: boolean;
  /** 0, or the error that ended it. */
  readonly rc: number;
  readonly made: number;
  /** Accesses of the GPU. */
  readonly completed: number;
  /** … that found nothing in its own tables, and that the IOMMU refused. */
  readonly pageFaults: number;
  readonly busFaults: number;
  readonly firstFaultDfn: number;
  /** Pages in which the CPU did not find what the GPU had written. */
  readonly lost: number;
  readonly firstLost: number;
}
