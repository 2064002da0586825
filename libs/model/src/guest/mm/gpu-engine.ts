// The GPU behind a userptr driver: one task that runs jobs in order, page by page, through the driver's table, and signals their
// fences. With recoverable faults it asks the driver for a page that is missing; without, a missing page loses the job.
import type { Mm } from './mm.ts';
import type { Userptr } from './userptr.ts';

export class GpuEngine {
  private readonly mm: Mm;
  private readonly driver: Userptr;
  done = 0;
  lost = 0;

  constructor(mm: Mm, driver: Userptr) {
    this.mm = mm;
    this.driver = driver;
  }

  /** Runs the oldest job; false: there is none. */
  runJob(): boolean {
    const { state, config } = this.driver;
    const job = state.peek();
    if (job === null) return false;
    const first = job.buffer * config.pagesPerBuffer;
    let whole = true;
    for (let i = 0; i < state.get(job.buffer, 'count') && whole; i++) {
      whole = this.reach(first + i, job.buffer, job.write, job.tag + i);
    }
    if (whole) this.done++;
    else this.lost++;
    state.drop();
    this.mm.fences.signal(job.fence);
    return true;
  }

  private reach(entry: number, buffer: number, write: boolean, tag: number): boolean {
    const { table, config } = this.driver;
    while (!table.access(0, entry, write, tag)) {
      if (config.gpuFaults === 'recoverable') {
        if (this.driver.bind(buffer, () => 0) < 0) return false;
        continue;
      }
      const text = `the GPU of ${this.mm.config.drivers[config.driver]} has no entry ${entry} for the job it runs`;
      this.mm.platform.violation({ invariant: 'noDeviceFaultInsideFence', text, evidence: { entry, buffer } });
      return false;
    }
    return true;
  }
}
