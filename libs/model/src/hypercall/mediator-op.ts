// The mediator at work, as dom0's vCPU on its pCPU: it attaches guests to a shared GPU and answers what they ask, and makes its
// hypercalls from there. All it decides is gpu/mediator.ts. One at a time per GPU; who waits for requests keeps no CPU.
import type { GpuState } from '../gpu/gpu-memory.ts';
import { Mediator } from '../gpu/mediator.ts';
import { newsSeen, ring, whileServing } from '../gpu/requests.ts';
import type { Host } from '../host.ts';
import type { CallOf, Hypercalls } from './calls.ts';
import { isCount, isPrivileged } from './checks.ts';
import { blocked, type Caller, done, goOn, type Outcome, rc } from './continuation.ts';
import { errno } from './errno.ts';

/** -EPERM but for dom0; -ENODEV: not a GPU that is shared. */
function gpuOf(h: Host, caller: Caller, device: unknown): GpuState | number {
  if (!isPrivileged(caller)) return -errno.EPERM;
  return h.gpus.all.find(({ config }) => config.sbdf === device) ?? -errno.ENODEV;
}

/** Runs `work` unless another vCPU of dom0 is at it: then once more, soon. */
function serving(h: Host, gpu: GpuState, port: Hypercalls, work: (mediator: Mediator) => Outcome): Outcome {
  return whileServing(gpu, () => work(new Mediator(h, port, gpu))) ?? goOn(null);
}

/** 0, or what Mediator.attach answers. */
export function gpuAttach(h: Host, caller: Caller, call: CallOf<'gpu_attach'>, port: Hypercalls): Outcome {
  const gpu = gpuOf(h, caller, call.device);
  if (typeof gpu === 'number') return rc(gpu);
  const { domid, mappable, unmappable } = call;
  if (!isCount(domid) || !isCount(mappable) || !isCount(unmappable)) return rc(-errno.EINVAL);
  return serving(h, gpu, port, (mediator) => rc(mediator.attach(domid, mappable, unmappable)));
}

/** 0 or -ESRCH. What the guest asks afterwards is refused. */
export function gpuDetach(h: Host, caller: Caller, call: CallOf<'gpu_detach'>, port: Hypercalls): Outcome {
  const gpu = gpuOf(h, caller, call.device);
  if (typeof gpu === 'number') return rc(gpu);
  const { domid } = call;
  if (!isCount(domid)) return rc(-errno.EINVAL);
  return serving(h, gpu, port, (mediator) => {
    const result = mediator.detach(domid);
    ring(gpu);
    return rc(result);
  });
}

export function gpuServe(h: Host, caller: Caller, call: CallOf<'gpu_serve'>, port: Hypercalls): Outcome {
  const gpu = gpuOf(h, caller, call.device);
  if (typeof gpu === 'number') return rc(gpu);
  const seen = newsSeen(gpu);
  return serving(h, gpu, port, (mediator) => {
    const served = mediator.serve();
    if (served > 0 || call.wait !== true) return done({ rc: 0, served });
    return blocked({ on: 'gpu', gpu: gpu.index, seen }, null);
  });
}
