// What a guest's graphics driver asks of a GPU that dom0 shares, and what the mediator in dom0's kernel does, as plain data: members
// of the one list of calls (calls.ts). None is a hypercall of Xen's: a driver's are memory writes, MMIO and command buffers, the
// mediator's the work of dom0's own CPU, which makes its hypercalls from there. `device`: the GPU, or the caller's own function
// of it (SR-IOV).

/** One entry of a guest's table, at its page `gfn`. `bits`: PTE_PRESENT, PTE_WRITE. */
export interface TableEntry {
  readonly gfn: number;
  readonly index: number;
  readonly frame: number;
  readonly bits: number;
}

/**
 * create-root: the page `b` is the root of context `a`; destroy-root: context `a` has none; submit: context `a` is about to run;
 * tlb-invalidate; ballooned: memory has left the guest (Xen's IOREQ_TYPE_INVALIDATE, before the vCPU goes on).
 */
export type GpuRequestKind = 'create-root' | 'destroy-root' | 'submit' | 'tlb-invalidate' | 'ballooned';

type Op<Name extends string, Args, Answer = unknown> = {
  call: { readonly op: Name } & Args;
  answer: { rc: number } & Answer;
};

export type GpuOps =
  | Op<'gpu_table_write', { device: number; entries: readonly TableEntry[] }, { written?: number }>
  | Op<'gpu_request', { device: number; kind: GpuRequestKind; a: number; b: number }>
  /** `root`: the context, or with SR-IOV the guest page of the root. `passes` 0: until it is told to stop. */
  | Op<
      'gpu_job_start',
      { device: number; root: number; page: number; pages: number; write: boolean; tag: number; passes: number }
    >
  /** Waits for the end of the caller's job, which it orders if `stop` is set. */
  | Op<
      'gpu_job_wait',
      { device: number; stop: boolean },
      { completed?: number; pageFaults?: number; busFaults?: number; firstFaultDfn?: number }
    >
  // dom0's
  | Op<'gpu_attach', { device: number; domid: number; mappable: number; unmappable: number }>
  | Op<'gpu_detach', { device: number; domid: number }>
  /** Answers guests' requests; with `wait` it does not return before there was one. */
  | Op<'gpu_serve', { device: number; wait: boolean }, { served?: number }>;
