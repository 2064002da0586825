// `xl destroy`, as libxl__destroy_domid: the guest process ends, devices are taken away first, then the hypervisor frees the
// rest, then xenstore forgets it. Also how a half-built domain is undone.
import { errno, errnoName } from '../hypercall/errno.ts';
import type { AttachedDevice } from './built-domain.ts';
import { ERROR_FAIL } from './passthrough-policy.ts';
import { detachDevice } from './pci-assignment.ts';
import { failure, type Operation, type OpResult, type ToolstackPorts } from './ports.ts';

export function* destroyDomain(
  ports: ToolstackPorts,
  domid: number,
  devices: readonly AttachedDevice[],
): Operation<OpResult> {
  const { port, xenstore } = ports;
  const log: string[] = [];
  yield { do: 'stop-guest', domid };
  const paused = port.call({ op: 'pausedomain', domid });
  if (paused.rc === -errno.ESRCH) return failure(ERROR_FAIL, `${domid} is not a domain.`);
  for (const device of devices) {
    const detached = detachDevice(ports, domid, device);
    // The hypervisor takes away what is left; libxl only says so.
    if (!detached.ok) log.push(...detached.log);
  }
  const { rc } = port.call({ op: 'destroydomain', domid });
  if (rc < 0) return failure(ERROR_FAIL, `xc_domain_destroy failed for ${domid}`, [...log, errnoName(rc)]);
  xenstore.removeDomain(domid);
  return { ok: true, log };
}
