// sysctl, sched_op and console calls: the host's figures, shutdown, and a guest's console line.
import { domainShutdown } from '../domain/crash.ts';
import type { Host } from '../host.ts';
import { sharing } from '../iommu/sharing.ts';
import { type CallOf, shutdownReason } from './calls.ts';
import { domainByAnyId, isCount, isPrivileged } from './checks.ts';
import { type Caller, done, type Outcome, rc } from './continuation.ts';
import { errno } from './errno.ts';

/** Characters of one console_io call (Xen's buffer). */
const CONSOLE_LIMIT = 4096;

export function physinfo(h: Host, caller: Caller): Outcome {
  if (!isPrivileged(caller)) return rc(-errno.EPERM);
  return done({
    rc: 0,
    info: {
      totalPages: h.heap.totalPages,
      freePages: h.heap.freePages,
      scrubPages: 0,
      outstandingClaims: h.heap.claimedPages,
      pcpus: h.config.nrCpus ?? h.config.pcpus,
      hap: h.config.hap,
      iommu: h.config.iommuEnabled,
      hapPtShare: sharing(h.config).shared,
    },
  });
}

const isReason = (n: unknown): n is number => isCount(n) && n <= shutdownReason.softReset;

/** The caller's own domain stops; the first reason stays. */
export function shutdown(_h: Host, caller: Caller, call: CallOf<'shutdown'>): Outcome {
  if (!isReason(call.reason)) return rc(-errno.EINVAL);
  domainShutdown(caller.domain, call.reason);
  return rc(0);
}

export function remoteShutdown(h: Host, caller: Caller, call: CallOf<'remote_shutdown'>): Outcome {
  const d = domainByAnyId(h, caller, call.domid);
  if (!d) return rc(-errno.ESRCH);
  if (!isPrivileged(caller)) return rc(-errno.EPERM);
  if (!isReason(call.reason)) return rc(-errno.EINVAL);
  domainShutdown(d, call.reason);
  return rc(0);
}

/** A guest's console: one hypervisor line per newline, prefixed with its number, nothing unprintable. */
export function consoleIo(h: Host, caller: Caller, call: CallOf<'console_io'>): Outcome {
  const { text } = call;
  if (typeof text !== 'string') return rc(-errno.EFAULT);
  if (text.length > CONSOLE_LIMIT) return rc(-errno.E2BIG);
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  for (const line of lines) h.platform.printk(`(d${caller.domain.domid}) ${line.replace(/[^\x20-\x7e]/g, '?')}`);
  return rc(0);
}
