// Identity entries of reserved device memory (RMRRs): gfn == mfn, 4K, mmio_direct. The three cases are p2m fact sheet 9:
// nothing there → insert; the same entry there → nothing to do; anything else → refused, or left as it is if relaxed.
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { DEV_RDM_RELAXED } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import { IOMMUF_readable, IOMMUF_writable } from '../iommu/flags.ts';
import { iommuLegacyMap, iommuLegacyUnmap } from '../iommu/iommu.ts';
import { p2mLock, p2mUnlock } from './p2m.ts';
import { Leaf, peekEntry } from './peek-entry.ts';
import { p2mSetEntry } from './set-entry.ts';
import { p2mAccess, p2mType } from './types.ts';

/** As in 2014: only the IOMMU's own tables, whatever the CPU sees there. dom0's, made at boot, are as today. */
const besideP2m = (h: Host, d: Domain): boolean => h.config.policies.rmrrIdentity === 'iommu-only' && !d.isHardware;

/** 0; -EBUSY when occupied and not relaxed; -ENOMEM. With DEV_RDM_RELAXED a conflicting mapping stays and 0 is answered. */
export function p2mAddIdentityEntry(h: Host, d: Domain, g: number, access: number, flag: number): number {
  if (!d.isTranslated || besideP2m(h, d)) return iommuLegacyMap(h, d, g, g, 1, IOMMUF_readable | IOMMUF_writable);
  const leaf = new Leaf();
  p2mLock(h, d);
  try {
    peekEntry(h, d, g, leaf);
    if (leaf.type === p2mType.invalid || leaf.type === p2mType.mmioDm) {
      return p2mSetEntry(h, d, g, g as Mfn, 0, p2mType.mmioDirect, access);
    }
    if (leaf.type === p2mType.mmioDirect && leaf.mfn === g && leaf.access === access) return 0;
    const mapped = leaf.mfn === INVALID_MFN ? 'ffffffffffffffff' : leaf.mfn.toString(16);
    h.platform.printk(`Cannot setup identity map d${d.domid}:${g.toString(16)}, gfn already mapped to ${mapped}.`);
    return (flag & DEV_RDM_RELAXED) !== 0 ? 0 : -errno.EBUSY;
  } finally {
    p2mUnlock(h, d);
  }
}

/** Removes the identity entry; anything else found there stays, with a warning unless it is empty. Always 0 then. */
export function p2mRemoveIdentityEntry(h: Host, d: Domain, g: number): number {
  if (!d.isTranslated || besideP2m(h, d)) return iommuLegacyUnmap(h, d, g, 1);
  const leaf = new Leaf();
  p2mLock(h, d);
  try {
    peekEntry(h, d, g, leaf);
    if (leaf.type === p2mType.mmioDirect && leaf.mfn === g) {
      return p2mSetEntry(h, d, g, INVALID_MFN, 0, p2mType.invalid, p2mAccess.rwx);
    }
    if (leaf.type !== p2mType.mmioDm || leaf.mfn !== INVALID_MFN) {
      h.platform.printk(
        `non-identity map d${d.domid}:${g.toString(16)} not cleared (mapped to ${leaf.mfn.toString(16)})`,
      );
    }
    return 0;
  } finally {
    p2mUnlock(h, d);
  }
}

/** How many pages of [first, last] lead to themselves now. */
export function identityPages(h: Host, d: Domain, first: number, last: number): number {
  const leaf = new Leaf();
  let pages = 0;
  for (let g = first; g <= last; g++) {
    peekEntry(h, d, g, leaf);
    if (leaf.type === p2mType.mmioDirect && leaf.mfn === g) pages++;
  }
  return pages;
}
