// Who in a kernel carries out an order about a shared GPU: the driver of that device, wherever it runs; what dom0 does beside its
// mediators runs on the balloon's vCPU, which never sleeps in Xen.
import type { Task, TaskContext } from '../task.ts';
import { BusDriver } from './bus-driver.ts';
import { changeGuest } from './mediator-task.ts';
import type { GpuOrder } from './spec.ts';
import { VgpuDriver } from './vgpu-driver.ts';

/** One vCPU, as an order finds it. */
export interface OrderedVcpu {
  readonly context: TaskContext;
  readonly tasks: readonly Task[];
  readonly isBalloons: boolean;
  readonly add: (task: Task) => void;
}

/** The task of that vCPU that has taken the order and wants to run, or null. */
export function takeGpuOrder(vcpu: OrderedVcpu, order: GpuOrder): Task | null {
  switch (order.act.what) {
    case 'attach':
    case 'detach':
      if (vcpu.isBalloons) changeGuest(vcpu.context, order);
      return null;
    case 'reuse':
    case 'release':
      return vcpu.isBalloons ? busDriver(vcpu, order) : null;
    default: {
      const driver = vcpu.tasks.find((task) => task instanceof VgpuDriver && task.device === order.device);
      if (!(driver instanceof VgpuDriver)) return null;
      driver.request(order);
      return driver;
    }
  }
}

function busDriver({ context, tasks, add }: OrderedVcpu, order: GpuOrder): Task {
  const known = tasks.find((task) => task instanceof BusDriver);
  const driver = known instanceof BusDriver ? known : new BusDriver(context);
  if (driver !== known) add(driver);
  driver.request(order);
  return driver;
}
