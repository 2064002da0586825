// What a driver asks of its device: command buffers, queued for the device's DMA thread; a call that waits keeps no CPU.
import { MAX_COMMANDS, MAX_TRANSACTIONS } from '../device/device-queues.ts';
import type { Host } from '../host.ts';
import { resetFaults } from '../iommu/faults.ts';
import { type CallOf, type DeviceCommand, extentCount } from './calls.ts';
import { extentsOk, isCount, isFrame, isPrivileged, isTag } from './checks.ts';
import { blocked, type Caller, type ContinuationState, done, type Outcome, rc } from './continuation.ts';
import { errno } from './errno.ts';

/** Index of a device that the caller owns; -ENODEV: no such device; -EPERM: somebody else's. */
function ownDevice(h: Host, caller: Caller, sbdf: unknown, orPrivileged = false): number {
  const device = isCount(sbdf) ? h.devices.indexOf(sbdf) : -1;
  // Before it is plugged in, and after it is gone, nobody finds it on the bus.
  if (device < 0 || h.iommu.ownerOf(device) < 0) return -errno.ENODEV;
  if (h.iommu.ownerOf(device) === caller.domain.domid) return device;
  return orPrivileged && isPrivileged(caller) ? device : -errno.EPERM;
}

/** Transactions of a command; -1 when it is malformed. */
function transactionsOf(command: DeviceCommand): number {
  if (typeof command !== 'object' || command === null || !extentsOk(command.frames)) return -1;
  if (command.kind !== 'read' && command.kind !== 'write') return -1;
  if (!isTag(command.tag) || !isCount(command.repeat)) return -1;
  return extentCount(command.frames) * command.repeat;
}

/** Any dfn below the address width may be asked for: whether it is mapped is the IOMMU's business. */
function framesOk({ frames }: DeviceCommand): boolean {
  if (!('frames' in frames)) return frames.count === 0 || isFrame(frames.start + frames.count - 1);
  for (let i = 0; i < frames.frames.length; i++) if (!isFrame(frames.frames[i])) return false;
  return true;
}

export function deviceSubmit(h: Host, caller: Caller, call: CallOf<'device_submit'>): Outcome {
  const device = ownDevice(h, caller, call.sbdf);
  if (device < 0) return rc(device);
  const { commands } = call;
  if (!Array.isArray(commands)) return rc(-errno.EFAULT);
  if (commands.length > MAX_COMMANDS) return rc(-errno.E2BIG);
  let transactions = 0;
  for (const command of commands as readonly DeviceCommand[]) {
    const n = transactionsOf(command);
    if (n < 0) return rc(-errno.EINVAL);
    transactions += n;
    // Scattered frames take arena space even when they are repeated zero times.
    if (transactions > MAX_TRANSACTIONS || extentCount(command.frames) > MAX_TRANSACTIONS) return rc(-errno.E2BIG);
    if (!framesOk(command)) return rc(-errno.EINVAL);
  }
  const job = h.devices.submit(device, commands, caller.domain.r.incarnation);
  return job === 0 ? rc(-errno.EBUSY) : done({ rc: 0, job });
}

/** -EINTR: dropped by a reset; -EIO: bus mastering is off. The figures tell how far the job came in any case. */
export function deviceWait(
  h: Host,
  caller: Caller,
  call: CallOf<'device_wait'>,
  state: ContinuationState | null,
): Outcome {
  const device = ownDevice(h, caller, call.sbdf);
  if (device < 0) return rc(device);
  if (!isCount(call.job)) return rc(-errno.EINVAL);
  if (!h.devices.knows(device, call.job, caller.domain.r.incarnation)) return rc(-errno.ENOENT);
  if (!h.devices.isDone(device, call.job)) return blocked({ on: 'device', sbdf: call.sbdf, job: call.job }, state);
  const { status, ...figures } = h.devices.result(device, call.job);
  return done({ rc: status === 0 ? 0 : -status, ...figures });
}

/** Drops what is queued and, once the DMA thread has let go, lets the device master the bus again. */
export function deviceReset(
  h: Host,
  caller: Caller,
  call: CallOf<'device_reset'>,
  state: ContinuationState | null,
): Outcome {
  const device = ownDevice(h, caller, call.sbdf, true);
  if (device < 0) return rc(device);
  const last = state?.at ?? h.devices.reset(device);
  if (last > 0 && !h.devices.isDone(device, last))
    return blocked({ on: 'device', sbdf: call.sbdf, job: last }, { at: last });
  resetFaults(h, device);
  return rc(0);
}
