// `xl destroy`, as libxl__destroy_domid: the guest process ends, devices are taken away first, then the hypervisor frees the
// rest, then xenstore forgets it. Also how a half-built domain is undone.
import { errno } from '../hypercall/errno.ts';
import type { AttachedDevice } from './built-domain.ts';
import { type LogLine, libxlAt, libxlError, libxlFailed, xlSays } from './libxl-log.ts';
import { ERROR_DOMAIN_NOTFOUND, ERROR_FAIL } from './passthrough-policy.ts';
import { detachDevice } from './pci-assignment.ts';
import { type Failure, failure, type Operation, type OpResult, type ToolstackPorts } from './ports.ts';

/** libxl's chain of callbacks, each with a line of its own, and xl's last word. */
function notDestroyed(domid: number, rc: number, reason: LogLine, before: readonly LogLine[] = []): Failure {
  const failed = failure(
    rc,
    reason,
    libxlError(libxlAt.guestNotDestroyed, 'Unable to destroy guest', domid),
    libxlError(libxlAt.destructionFailed, 'Destruction of domain failed', domid),
    xlSays(`destroy failed (rc=${rc})`),
  );
  return { ...failed, log: [...before, ...failed.log] };
}

export function* destroyDomain(
  ports: ToolstackPorts,
  domid: number,
  devices: readonly AttachedDevice[],
): Operation<OpResult> {
  const { port, xenstore } = ports;
  const log: LogLine[] = [];
  yield { do: 'stop-guest', domid };
  const paused = port.call({ op: 'pausedomain', domid });
  if (paused.rc === -errno.ESRCH) {
    return notDestroyed(domid, ERROR_DOMAIN_NOTFOUND, libxlError(libxlAt.noDomain, 'Non-existant domain', domid));
  }
  for (const device of devices) {
    const detached = detachDevice(ports, domid, device);
    // The hypervisor takes away what is left; libxl only says so.
    if (!detached.ok) log.push(...detached.log);
  }
  const { rc } = port.call({ op: 'destroydomain', domid });
  if (rc < 0) {
    const reason = libxlFailed(libxlAt.destroyFailed, 'xc_domain_destroy failed', rc, domid);
    return notDestroyed(domid, ERROR_FAIL, reason, log);
  }
  xenstore.removeDomain(domid);
  return { ok: true, log };
}
