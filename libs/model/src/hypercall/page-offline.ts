// XEN_SYSCTL_page_offline_op: memory that shows errors is taken out of use, frame by frame, or put back.
import { offlinePage, onlinePage, type PageStatus, queryPageOffline, UNTOUCHED_STATUS } from '../domain/offline.ts';
import type { Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import type { CallOf } from './calls.ts';
import { isCount, isPrivileged } from './checks.ts';
import { type Caller, done, type Outcome, rc } from './continuation.ts';
import { errno } from './errno.ts';

/** Xen allocates a word per frame of the request; more than it can is -ENOMEM. */
const RANGE_MAX = 0x10000;

const actions: Record<CallOf<'page_offline_op'>['cmd'], (h: Host, m: Mfn) => PageStatus> = {
  offline: offlinePage,
  online: onlinePage,
  query: queryPageOffline,
};

/** Frames `start` … `end` (inclusive), a status each; the first error ends it, and what was done stays. */
export function pageOfflineOp(h: Host, caller: Caller, call: CallOf<'page_offline_op'>): Outcome {
  const { cmd, start, end } = call;
  if (!isPrivileged(caller)) return rc(-errno.EPERM);
  if (!isCount(start) || !isCount(end) || end < start) return rc(-errno.EINVAL);
  if (end - start >= RANGE_MAX) return rc(-errno.ENOMEM);
  const action = actions[cmd];
  if (!action) return rc(-errno.EINVAL);
  const statuses = Array.from({ length: end - start + 1 }, () => UNTOUCHED_STATUS);
  let result = 0;
  for (let m = start; m <= end && result === 0; m++) {
    const page = action(h, m as Mfn);
    result = page.rc;
    statuses[m - start] = page.status;
  }
  return done({ rc: result, statuses });
}
