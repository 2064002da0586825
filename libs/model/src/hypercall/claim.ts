// XENMEM_claim_pages: promises of memory that nobody else can take, so that a build fails before it starts and not halfway.

import { setClaim } from '../domain/claim.ts';
import type { Host } from '../host.ts';
import type { CallOf } from './calls.ts';
import { domainByAnyId, isCount, isPrivileged } from './checks.ts';
import { type Caller, type Outcome, rc } from './continuation.ts';
import { errno } from './errno.ts';

export function claimPages(h: Host, caller: Caller, call: CallOf<'claim_pages'>): Outcome {
  if (!isCount(call.pages)) return rc(-errno.EINVAL);
  const d = domainByAnyId(h, caller, call.domid);
  if (!d) return rc(-errno.ESRCH);
  if (!isPrivileged(caller)) return rc(-errno.EPERM);
  return rc(setClaim(h, d, call.pages));
}
