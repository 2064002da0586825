// A grant at a gfn of an HVM mapper (create_grant_p2m_mapping, replace_grant_p2m_mapping): a 4K leaf of a type of its own, which
// holds no reference: the handle does. M2P is not touched, the frame stays the granting domain's.
import { domainCrash } from '../domain/crash.ts';
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { FLUSHF_all, FLUSHF_modified } from '../iommu/flags.ts';
import { iommuIotlbFlush } from '../iommu/iommu.ts';
import { p2mLock, p2mUnlock } from '../p2m/p2m.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { refuseReplacing } from '../p2m/physmap.ts';
import { p2mSetEntry } from '../p2m/set-entry.ts';
import { isGrant, isRam, isSpecial, p2mAccess, p2mType } from '../p2m/types.ts';
import { counter } from '../shared-memory/counters.ts';
import { gntst } from './status.ts';

const C_FLUSH = counter('grant.flush');

const grantType = (readonly: boolean): number => (readonly ? p2mType.grantMapRo : p2mType.grantMapRw);

/**
 * RAM at `g` is overwritten and left without a gfn: the mapper should have ballooned it out. Over a special entry the mapper is
 * crashed. okay or generalError.
 */
export function mapGrantAt(h: Host, d: Domain, g: number, m: Mfn, readonly: boolean): number {
  p2mLock(h, d);
  try {
    const leaf = new Leaf();
    peekEntry(h, d, g, leaf);
    if (isSpecial(leaf.type)) {
      refuseReplacing(h, d, g, leaf, { mfn: m, type: grantType(readonly) });
      domainCrash(h, d, `domain_crash called from p2m.c: d${d.domid} maps a grant over a special entry`);
      return gntst.generalError;
    }
    const hadRam = isRam(leaf.type) && leaf.mfn !== INVALID_MFN;
    const wasPod = leaf.type === p2mType.populateOnDemand;
    if (wasPod) d.locks.pod.lock();
    const rc = p2mSetEntry(h, d, g, m, 0, grantType(readonly), p2mAccess.rwx);
    if (rc === 0) {
      d.r.nrGrantLeaves++;
      if (hadRam) h.frames.clearM2pBlock(leaf.mfn, 1);
      if (wasPod) d.r.podEntryCount--;
    }
    if (wasPod) d.locks.pod.unlock();
    return rc === 0 ? gntst.okay : gntst.generalError;
  } finally {
    p2mUnlock(h, d);
  }
}

export interface HostMapping {
  readonly gfn: number;
  readonly mfn: Mfn;
  /** Whether the entry is gone now. */
  removed: boolean;
}

/**
 * Takes the entries of a batch out of the p2m, under one lock, and with one flush of the IOTLB and one of the CPUs for all of them.
 * What is not a grant of that frame is left alone. When this returns nobody reaches the frames through those entries.
 * Deviation: Xen takes the lock for each entry of an HVM mapper, and so flushes its CPUs for each.
 */
export function unmapGrantsAt(h: Host, d: Domain, batch: readonly HostMapping[]): void {
  const leaf = new Leaf();
  let low = Number.POSITIVE_INFINITY;
  let high = -1;
  let count = 0;
  const postponed = h.iommu.dontFlush;
  p2mLock(h, d);
  try {
    h.iommu.dontFlush = true;
    for (const mapping of batch) {
      const { gfn, mfn } = mapping;
      peekEntry(h, d, gfn, leaf);
      if (!isGrant(leaf.type) || leaf.mfn !== mfn) {
        const frame = mfn.toString(16);
        h.platform.printk(
          `d${d.domid}: old mapping invalid (type ${leaf.type}, mfn ${leaf.mfn.toString(16)}, frame ${frame})`,
        );
        continue;
      }
      if (p2mSetEntry(h, d, gfn, INVALID_MFN, 0, p2mType.invalid, p2mAccess.rwx) === 0) mapping.removed = true;
      // Of dom0 the entry may be gone and its devices' not: then the frame must not go.
      else if (peekEntry(h, d, gfn, leaf) === mfn) continue;
      d.r.nrGrantLeaves--;
      low = Math.min(low, gfn);
      high = Math.max(high, gfn);
      count++;
    }
    h.iommu.dontFlush = postponed;
    if (count === 0) return;
    // A range that is mostly others' pages costs more in IOTLB misses than a flush of the domain.
    const whole = high - low + 1 > count * 4 ? FLUSHF_all : 0;
    iommuIotlbFlush(h, d, low, high - low + 1, FLUSHF_modified | whole);
    h.counters.add(C_FLUSH);
  } finally {
    h.iommu.dontFlush = postponed;
    p2mUnlock(h, d);
  }
}
