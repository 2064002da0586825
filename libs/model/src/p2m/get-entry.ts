// Lookups that may populate a PoD entry (ept_get_entry with P2M_ALLOC), and the ways to hold on to what was read. An mfn without
// a held lock or a page reference is stale the moment it is returned; a page reference keeps the *frame*, not the mapping.
import { domainCrash } from '../domain/crash.ts';
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { podDemandPopulate } from '../pod/demand-populate.ts';
import { p2mLock, p2mReadLock, p2mReadUnlock, p2mUnlock } from './p2m.ts';
import { absent, type Leaf, peekEntry } from './peek-entry.ts';
import { isLent, isRam, p2mType } from './types.ts';

/** Look only. */
export const P2M_QUERY = 0;
/** Populate a PoD entry, as a CPU access would. */
export const P2M_ALLOC = 1;
/** Show lent memory. Without it there is a hole: hypercalls must not depend on what its lender may take back. */
export const P2M_LENT = 2;

/**
 * The entry at `g`. With P2M_ALLOC the caller holds the p2m write lock and a PoD entry is populated first, as a CPU access
 * would; if that fails the result is that of a hole.
 */
export function getEntry(h: Host, d: Domain, g: number, query: number, out: Leaf): Mfn {
  for (;;) {
    const m = peekEntry(h, d, g, out);
    if (isLent(out.type) && (query & P2M_LENT) === 0) return absent(out, out.order);
    if (out.type !== p2mType.populateOnDemand || (query & P2M_ALLOC) === 0) return m;
    if (!podDemandPopulate(h, d, g, out.order)) return absent(out, out.order);
  }
}

/** get_gfn: looks up and keeps the p2m write lock until putGfn. Of a PV domain there is nothing to lock. */
export function getGfn(h: Host, d: Domain, g: number, query: number, out: Leaf): Mfn {
  if (!d.isTranslated) return peekEntry(h, d, g, out);
  p2mLock(h, d);
  const m = getEntry(h, d, g, query, out);
  if (out.type === p2mType.ramBroken && (query & P2M_ALLOC) !== 0) {
    domainCrash(h, d, `domain_crash called from p2m.c: d${d.domid} reads broken memory`);
    return absent(out, 0);
  }
  return m;
}

export function putGfn(h: Host, d: Domain): void {
  if (d.isTranslated) p2mUnlock(h, d);
}

/**
 * A reference on the frame behind `g`: RAM of the domain itself, or a foreign frame; -1 for anything else (holes, direct
 * MMIO, grants). Fast path under the read lock; PoD goes the slow way under the write lock. The reference must be put. A PV
 * domain sees machine frames one to one: `g` is the frame.
 */
export function getPageFromGfn(h: Host, d: Domain, g: number, query: number, out: Leaf): Mfn | -1 {
  if (!d.isTranslated) {
    peekEntry(h, d, g, out);
    return refOf(h, d, out);
  }
  p2mReadLock(h, d);
  let m: Mfn | -1 = -1;
  try {
    peekEntry(h, d, g, out);
    m = refOf(h, d, out);
  } finally {
    p2mReadUnlock(h, d);
  }
  if (isLent(out.type)) absent(out, out.order);
  if (m >= 0 || (query & P2M_ALLOC) === 0 || out.type !== p2mType.populateOnDemand) return m;
  getGfn(h, d, g, query, out);
  m = refOf(h, d, out);
  putGfn(h, d);
  return m;
}

function refOf(h: Host, d: Domain, leaf: Leaf): Mfn | -1 {
  if (leaf.mfn === INVALID_MFN || !h.frames.valid(leaf.mfn)) return -1;
  if (isRam(leaf.type)) return h.frames.getPage(leaf.mfn, d.domid) ? leaf.mfn : -1;
  if (leaf.type !== p2mType.mapForeign) return -1;
  const owner = h.frames.ownerOf(leaf.mfn);
  return owner >= 0 && h.frames.getPage(leaf.mfn, owner as typeof d.domid) ? leaf.mfn : -1;
}
