// The mediator's thread in dom0's kernel: it answers the requests of its GPU's guests for as long as dom0 lives, asleep in between
// (so its vCPU can do nothing else). What it answers is gpu/mediator.ts. Attaching a guest is another thread's, as a write to sysfs.
import { errnoName } from '../../hypercall/errno.ts';
import type { Task, TaskContext } from '../task.ts';
import type { GpuOrder, MediatorWorkloadSpec } from './spec.ts';
import { Tally } from './tally.ts';

export class MediatorTask implements Task {
  readonly id: string;
  private readonly c: TaskContext;
  private readonly device: number;

  constructor(context: TaskContext, { id, device }: MediatorWorkloadSpec) {
    this.id = id;
    this.c = context;
    this.device = device;
  }

  step(now: number): number {
    const { rc } = this.c.port.call({ op: 'gpu_serve', device: this.device, wait: true });
    if (rc === 0) return now;
    this.c.sink.event('workload', { id: this.id, state: 'failed', text: `gpu_serve: ${errnoName(rc)}` });
    return Number.POSITIVE_INFINITY;
  }

  stop(): void {}
}

/** A guest gets or loses its virtual GPU. */
export function changeGuest({ port, sink }: TaskContext, order: GpuOrder): void {
  const { device, act } = order;
  const tally = new Tally(order);
  if (act.what === 'attach') {
    const { domid, mappable, unmappable } = act;
    tally.fail(port.call({ op: 'gpu_attach', device, domid, mappable, unmappable }).rc);
  } else if (act.what === 'detach') tally.fail(port.call({ op: 'gpu_detach', device, domid: act.domid }).rc);
  tally.made++;
  sink.event('gpuActivity', tally.figures);
}
