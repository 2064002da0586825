// A dying domain lets go of the grants it has mapped, first of all (gnttab_release_mappings), so that the domains that granted
// them have their frames back early.
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { slotFrame, slotLow, slotType } from '../p2m/entry.ts';
import { leaves } from '../p2m/lifecycle.ts';
import { isGrant } from '../p2m/types.ts';
import { activeUse } from './active-entry.ts';
import { grantWord } from './grant-state.ts';
import { type HostMapping, unmapGrantsAt } from './host-mapping.ts';
import { unpin } from './map.ts';
import { giveHandle, handleDomid, handleFlags, handleRef, liveHandles } from './maptrack.ts';

/** Handles between two preemption checks: those of one map-track frame. */
const SLICE = 256;

/** An operation on the maptrack of `d` begins; false: `d` is dying. Pair with `leaveGrantOp`. */
export function enterGrantOp(h: Host, d: Domain): boolean {
  const { head } = h.grants.of(d);
  Atomics.add(head, grantWord.opsInFlight, 1);
  if (!d.dying) return true;
  leaveGrantOp(h, d);
  return false;
}

export function leaveGrantOp(h: Host, d: Domain): void {
  const { head } = h.grants.of(d);
  if (Atomics.sub(head, grantWord.opsInFlight, 1) === 1) Atomics.notify(head, grantWord.opsInFlight);
}

/** Until the operations that began before `d` was marked dying have ended; each is short, and takes no lock of its destroyer's. */
export function awaitGrantOps(h: Host, d: Domain): void {
  const { head } = h.grants.of(d);
  if (Atomics.load(head, grantWord.opsInFlight) === 0) return;
  h.lockTable.waitUntil(
    head,
    grantWord.opsInFlight,
    () => `the grant operations of d${d.domid}`,
    () => Atomics.load(head, grantWord.opsInFlight) === 0,
  );
}

/**
 * 0 or -ERESTART. Deviation: the p2m entries go first, with a flush. Xen leaves them to the tables' end, as no vCPU runs any more;
 * but a device of the domain does until it is taken away, and its IOMMU would still let it reach frames that are others' again.
 */
export function releaseGrantMappings(h: Host, d: Domain, preempt: () => boolean): number {
  awaitGrantOps(h, d);
  if (d.isTranslated && d.r.nrGrantLeaves > 0) return releaseLeaves(h, d);
  const t = h.grants.of(d);
  let released = 0;
  for (const handle of liveHandles(t)) {
    const rd = h.domain(handleDomid(t, handle));
    h.assert(rd !== null, 'a mapped grant keeps its domain');
    const ref = handleRef(t, handle);
    const flags = handleFlags(t, handle);
    const { mfn } = activeUse(h.grants.of(rd), ref);
    giveHandle(h, d, handle);
    unpin(h, rd, ref, mfn, flags);
    if (++released % SLICE === 0 && preempt()) return -errno.ERESTART;
  }
  return 0;
}

/** One batch of p2m entries. */
function releaseLeaves(h: Host, d: Domain): number {
  const batch: HostMapping[] = [];
  for (const { gfn, slot } of leaves(h, d)) {
    if (!isGrant(slotType(slotLow(slot)))) continue;
    batch.push({ gfn, mfn: slotFrame(slot) as Mfn, removed: false });
    if (batch.length === SLICE) break;
  }
  h.assert(batch.length > 0 && batch.every(({ mfn }) => mfn !== INVALID_MFN), 'grant leaves are counted');
  unmapGrantsAt(h, d, batch);
  return -errno.ERESTART;
}
