// Death of a domain, in Xen's order. The order is the point: devices go first, then the tables they translate by, then the
// p2m, and only then a frame returns to the host; freeing RAM before that would hand a device's target to a stranger.
//
//   0 mark     paused, is_dying (with barriers on every lock that guards a check of it), claim dropped
//   grants: those it has mapped go first, so that others have their frames back early
//   lending: what it borrowed and what it lent, before a device whose memory is lent goes
//   a devices  back to quarantine or dom0          b I/O tables
//   d foreign  references it holds of others       e p2m tables, paging pool, PoD cache
//   g Xen's own pages of it                        h its RAM
//   then dead; a zombie while somebody still refers to one of its frames
import { releaseGrantMappings } from '../grant/release.ts';
import { freeTableFrames } from '../grant/table.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { releaseDevices } from '../iommu/assign.ts';
import { iommuFreePgtables } from '../iommu/iommu.ts';
import { closeAllWindows, countsLent } from '../lending/open-window.ts';
import { freeAllIoreqFrames } from '../p2m/ioreq-pages.ts';
import { p2mTeardown, relinquishForeign } from '../p2m/lifecycle.ts';
import { podEmptyCache } from '../pod/empty.ts';
import { dropClaim } from './claim.ts';
import { freeSharedInfo } from './create.ts';
import type { Domain } from './domain.ts';
import { domainRecord, domainState } from './domain-record.ts';
import { releaseIfUnreferenced, relinquishMemory } from './memory.ts';
import { waitUntilOut } from './pause.ts';

const stage = {
  mark: 0,
  grants: 1,
  lending: 2,
  devices: 3,
  ioTables: 4,
  foreign: 5,
  tables: 6,
  podCache: 7,
  xenPages: 8,
  memory: 9,
  dead: 10,
} as const;

/**
 * One slice: 0 = dead; -ERESTART = call again, it resumes at the stage it reached; another error: a device would not go. Caller holds the domctl lock, so two
 * destroyers of one domain exclude each other between slices too (the stage is in the record).
 */
export function destroyDomain(h: Host, d: Domain, preempt: () => boolean): number {
  for (;;) {
    const at = Atomics.load(d.r.words, domainRecord.at.destroyStage);
    if (at === stage.dead) return 0;
    const rc = runStage(h, d, at, preempt);
    if (rc !== 0) return rc;
    Atomics.store(d.r.words, domainRecord.at.destroyStage, at + 1);
    // The last stage gives the record away: its words must not be touched after.
    if (at + 1 === stage.dead) return bury(d);
  }
}

function runStage(h: Host, d: Domain, at: number, preempt: () => boolean): number {
  switch (at) {
    case stage.mark:
      return markDying(h, d);
    case stage.grants:
      return releaseGrantMappings(h, d, preempt);
    case stage.lending:
      // Policy `lend.frames: uncounted`, a mistake to look at: what it lent goes with the rest of it.
      return closeAllWindows(h, d, preempt, countsLent(h) ? 'all' : 'borrowed');
    case stage.devices:
      // A device that cannot be taken away still walks the tables of `d`: they stay, and so does the domain.
      return releaseDevices(h, d);
    case stage.ioTables:
      return d.has('iommu') ? iommuFreePgtables(h, d, preempt) : 0;
    case stage.foreign:
      return d.isTranslated ? relinquishForeign(h, d, preempt) : 0;
    case stage.tables:
      return d.isTranslated ? p2mTeardown(h, d, preempt) : 0;
    case stage.podCache:
      return podEmptyCache(h, d, preempt);
    case stage.xenPages:
      freeSharedInfo(h, d);
      freeTableFrames(h, d);
      freeAllIoreqFrames(h, d);
      return 0;
    case stage.memory:
      return relinquish(h, d, preempt) || closeAllWindows(h, d, preempt, 'all');
    default:
      return h.panic(`d${d.domid} is destroyed at unknown stage ${at}`);
  }
}

function markDying(h: Host, d: Domain): number {
  Atomics.store(d.r.words, domainRecord.at.state, domainState.dying);
  Atomics.store(d.r.words, domainRecord.at.isDying, 1);
  waitUntilOut(h, d);
  // Whoever looked at is_dying under one of these locks before it was set has finished when the barrier returns.
  const { p2m, pod, pageAlloc, paging, iommuMapping } = d.locks;
  p2m.writeLock();
  p2m.writeUnlock();
  for (const lock of [pod, pageAlloc, paging, iommuMapping]) lock.barrier();
  dropClaim(h, d);
  return 0;
}

function relinquish(h: Host, d: Domain, preempt: () => boolean): number {
  const next = relinquishMemory(h, d, d.r.relinquishAt, preempt);
  if (next < 0) return 0;
  d.r.relinquishAt = next;
  return -errno.ERESTART;
}

function bury(d: Domain): number {
  Atomics.store(d.r.words, domainRecord.at.state, domainState.zombie);
  releaseIfUnreferenced(d);
  return 0;
}
