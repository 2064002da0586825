// Adding and removing guest RAM: p2m_add_page, p2m_remove_page, guest_remove_page. Here the p2m, M2P, the PoD count and the
// dirty bitmap are kept in step; special entries (MMIO, grants, foreign frames) are protected (XSA-378); half-done work is repaired (XSA-389).
import { domainCrash } from '../domain/crash.ts';
import type { Domain } from '../domain/domain.ts';
import { putAllocRef, putPage } from '../domain/memory.ts';
import { INVALID_MFN, type Mfn, type Order } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { IOMMUF_readable, IOMMUF_writable } from '../iommu/flags.ts';
import { iommuLegacyMap, iommuLegacyUnmap } from '../iommu/iommu.ts';
import { mapsAllRam } from '../iommu/one-to-one.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { markClean, markDirty } from './dirty-bitmap.ts';
import { getGfn, P2M_QUERY, putGfn } from './get-entry.ts';
import { p2mLock, p2mTlbFlushSync, p2mUnlock } from './p2m.ts';
import { Leaf, peekEntry } from './peek-entry.ts';
import { p2mSetEntry } from './set-entry.ts';
import { isAnyRam, isHole, isPaging, isPod, isRam, isSpecial, p2mAccess, p2mType } from './types.ts';

/** How many gfns from `g` the entry just read covers, at most `limit`. */
const covered = (leaf: Leaf, g: number, limit: number): number =>
  Math.min(limit, 2 ** leaf.order - (g % 2 ** leaf.order));

/** Is the entry safe from calls that do not own it? MMIO and identity entries were not before XSA-378. */
export const isProtected = (h: Host, type: number): boolean =>
  isSpecial(type) && (type !== p2mType.mmioDirect || h.config.policies.specialEntries === 'protected');

/** C's `%#lx`: nothing stands before a zero. */
const alternate = (n: number): string => (n === 0 ? '0' : `0x${n.toString(16)}`);
const mfnText = (m: Mfn): string => (m === INVALID_MFN ? '0xffffffffffffffff' : alternate(m));

/** Xen's line on an entry that may not be replaced. With an order, as set_typed_p2m_entry has it; else as p2m_add_page. */
export function refuseReplacing(
  h: Host,
  d: Domain,
  g: number,
  old: Leaf,
  put: { readonly mfn: Mfn; readonly type: number; readonly order?: Order; readonly access?: number },
): void {
  const order = (n: number): string => (put.order === undefined ? '' : `${n},`);
  const was = `${mfnText(old.mfn)},${order(old.order)}${old.type},${old.access}`;
  const now = `${mfnText(put.mfn)},${order(put.order ?? 0)}${put.type},${put.access ?? p2mAccess.rwx}`;
  h.platform.printk(`d${d.domid}: GFN ${alternate(g)} (${was}) -> (${now}) not permitted`);
}

/** An MMIO or identity entry of one page goes, as clear_mmio_p2m_entry. p2m lock held. */
export const clearMmioEntry = (h: Host, d: Domain, g: number): number =>
  p2mSetEntry(h, d, g, INVALID_MFN, 0, p2mType.invalid, p2mAccess.rwx);

/** guest_physmap_add_page: 2^order frames of `d` become RAM at `g`. 0 or -errno; takes the p2m lock. */
export function guestPhysmapAddPage(h: Host, d: Domain, g: number, m: Mfn, order: Order): number {
  if (!d.isTranslated) {
    // PV: M2P says where the guest has it; a writable type reference maps it for the domain's devices.
    const pages = 2 ** order;
    h.frames.setM2pBlock(m, g, pages);
    if (mapsAllRam(d)) return 0;
    return iommuLegacyMap(h, d, m, m, pages, IOMMUF_readable | IOMMUF_writable);
  }
  p2mLock(h, d);
  try {
    return addPage(h, d, g, m, order);
  } finally {
    p2mUnlock(h, d);
  }
}

function addPage(h: Host, d: Domain, g: number, m: Mfn, order: Order): number {
  const pages = 2 ** order;
  const leaf = new Leaf();
  // Look first: nothing is changed if a special entry is in the way.
  for (let i = 0; i < pages; i += covered(leaf, g + i, pages - i)) {
    peekEntry(h, d, g + i, leaf);
    if (!isProtected(h, leaf.type)) continue;
    refuseReplacing(h, d, g + i, leaf, { mfn: (m + i) as Mfn, type: p2mType.ramRw });
    domainCrash(h, d, `domain_crash called from p2m.c: d${d.domid} maps RAM over a special entry`);
    return -errno.EPERM;
  }
  let podCount = 0;
  for (let i = 0; i < pages; ) {
    peekEntry(h, d, g + i, leaf);
    const run = covered(leaf, g + i, pages - i);
    // The old frame stays owned, but nothing maps it any more: an orphan until the domain dies.
    if (isRam(leaf.type) && leaf.mfn !== INVALID_MFN) h.frames.clearM2pBlock(leaf.mfn, run);
    else if (isPod(leaf.type)) podCount += run;
    i += run;
  }
  if (podCount > 0) d.locks.pod.lock();
  try {
    const alias = removeAliases(h, d, m, pages);
    const rc = alias !== 0 ? alias : p2mSetEntry(h, d, g, m, order, p2mType.ramRw, p2mAccess.rwx);
    if (rc !== 0) {
      repair(h, d, g, pages, podCount);
      return rc;
    }
    h.frames.setM2pBlock(m, g, pages);
    markDirty(h, d, g, pages);
    if (podCount > 0) {
      step(stepKind.count, g);
      d.r.podEntryCount -= podCount;
    }
    return 0;
  } finally {
    if (podCount > 0) d.locks.pod.unlock();
  }
}

/** XSA-389: some of the range may have changed. M2P and the PoD count follow what is there now, of `podBefore` PoD pages. */
function repair(h: Host, d: Domain, g: number, pages: number, podBefore: number): void {
  const leaf = new Leaf();
  let pod = 0;
  for (let i = 0; i < pages; ) {
    peekEntry(h, d, g + i, leaf);
    const run = covered(leaf, g + i, pages - i);
    if (isPod(leaf.type)) pod += run;
    else if (isRam(leaf.type) && leaf.mfn !== INVALID_MFN) {
      h.frames.setM2pBlock(leaf.mfn, g + i, run);
      markDirty(h, d, g + i, run);
    }
    i += run;
  }
  d.r.podEntryCount -= podBefore - pod;
}

/** A frame has one place: what `d` maps elsewhere is unmapped there. */
function removeAliases(h: Host, d: Domain, m: Mfn, pages: number): number {
  const { m2p } = h.frames;
  // Xen's own pages were taken away by whoever placed them (XSA-379).
  if (h.config.policies.p2mLookup === 'stale' && h.frames.has(m, frameFlag.special)) return 0;
  for (let i = 0; i < pages; i++) {
    const at = m2p[m + i] as number;
    if (at === 0 || h.frames.ownerOf((m + i) as Mfn) !== d.domid) continue;
    const leaf = new Leaf();
    if (peekEntry(h, d, at - 1, leaf) !== m + i) continue;
    const rc = removeEntry(h, d, at - 1, (m + i) as Mfn, 0);
    if (rc !== 0) return rc;
  }
  return 0;
}

/**
 * guest_physmap_remove_page: unmaps exactly `m` at `g`. -EILSEQ when anything else is there; takes the p2m lock. A PV domain has
 * nothing to unmap.
 */
export function p2mRemovePage(h: Host, d: Domain, g: number, m: Mfn, order: Order): number {
  if (!d.isTranslated) return 0;
  p2mLock(h, d);
  try {
    return removeEntry(h, d, g, m, order);
  } finally {
    p2mUnlock(h, d);
  }
}

/** p2m_remove_entry. p2m lock held. */
export function removeEntry(h: Host, d: Domain, g: number, m: Mfn, order: Order): number {
  const pages = 2 ** order;
  const leaf = new Leaf();
  for (let i = 0; i < pages; ) {
    peekEntry(h, d, g + i, leaf);
    const matches =
      isAnyRam(leaf.type) || leaf.type === p2mType.ramBroken
        ? leaf.mfn === m + i
        : isHole(leaf.type) && leaf.mfn === INVALID_MFN && m === INVALID_MFN;
    if (!matches) return -errno.EILSEQ;
    i += covered(leaf, g + i, pages - i);
  }
  peekEntry(h, d, g, leaf);
  const ordinary = m !== INVALID_MFN && !isSpecial(leaf.type);
  if (ordinary) {
    h.frames.clearM2pBlock(m, pages);
    markClean(h, d, g, pages);
  }
  const rc = p2mSetEntry(h, d, g, INVALID_MFN, order, p2mType.invalid, p2mAccess.rwx);
  if (rc !== 0 && ordinary) {
    // XSA-389: where RAM is still mapped, M2P must say so again, and that it may have been written
    for (let i = 0; i < pages; i++) {
      if (peekEntry(h, d, g + i, leaf) !== m + i) continue;
      h.frames.setM2p((m + i) as Mfn, g + i);
      markDirty(h, d, g + i, 1);
    }
  }
  return rc;
}

/**
 * guest_remove_page: the guest gives up the frame at `g`. 0; -ENOENT nothing there; -EPERM direct MMIO; -EINVAL no frame
 * (still PoD); -ENXIO not its own. The frame is free when its last reference goes. The IOMMU is flushed before that, even
 * where a caller postponed flushes (XSA-346).
 */
export function guestRemovePage(h: Host, d: Domain, g: number): number {
  if (!d.isTranslated) return removePvPage(h, d, g as Mfn);
  const leaf = new Leaf();
  getGfn(h, d, g, P2M_QUERY, leaf);
  try {
    if (isPaging(leaf.type)) return p2mSetEntry(h, d, g, INVALID_MFN, 0, p2mType.invalid, p2mAccess.rwx);
    if (leaf.type === p2mType.invalid || leaf.type === p2mType.mmioDm) return -errno.ENOENT;
    if (leaf.type === p2mType.mmioDirect) return isProtected(h, leaf.type) ? -errno.EPERM : clearMmioEntry(h, d, g);
    if (leaf.mfn === INVALID_MFN || !h.frames.valid(leaf.mfn)) return -errno.EINVAL;
    const m = leaf.mfn;
    if (!h.frames.getPage(m, d.domid)) return -errno.ENXIO;
    const postponed = h.iommu.dontFlush;
    h.iommu.dontFlush = false;
    const rc = removeEntry(h, d, g, m, 0);
    h.iommu.dontFlush = postponed;
    // Where Xen relies on a flush when the heap hands the frame out again, ours is flushed before it goes there.
    if (rc === 0) p2mTlbFlushSync(h, d);
    // A special page is only unhooked: it stays Xen's. A domain that crashed here may still have it in its IOMMU tables.
    if (rc === 0 && !d.crashed && !h.frames.has(m, frameFlag.special)) putAllocRef(h, m);
    putPage(h, m);
    return rc;
  } finally {
    putGfn(h, d);
  }
}

/**
 * The same for a PV domain, which names the frame itself. Deviation: its devices lose the page here; Xen takes the IOMMU mapping
 * away with the last reference (cleanup_page_mappings), so that a page lent to others stays mapped for the lender's devices.
 */
function removePvPage(h: Host, d: Domain, m: Mfn): number {
  if (!h.frames.valid(m)) return -errno.EINVAL;
  if (!h.frames.getPage(m, d.domid)) return -errno.ENXIO;
  const special = h.frames.has(m, frameFlag.special);
  const rc = special || mapsAllRam(d) ? 0 : iommuLegacyUnmap(h, d, m, 1);
  if (rc === 0 && !d.crashed && !special) putAllocRef(h, m);
  putPage(h, m);
  return rc;
}

/**
 * set_typed_p2m_entry: a special entry at `g`. Over an existing leaf smaller than asked for, answers that order + 1 so that
 * the caller tries again in smaller pieces. The same entry again is fine; another special one crashes the domain.
 */
export function setTypedEntry(
  h: Host,
  d: Domain,
  g: number,
  m: Mfn,
  order: Order,
  type: number,
  access: number,
): number {
  const leaf = new Leaf();
  const stale = h.config.policies.p2mLookup === 'stale';
  if (stale) peekEntry(h, d, g, leaf);
  p2mLock(h, d);
  try {
    if (!stale) peekEntry(h, d, g, leaf);
    if (leaf.order < order) return leaf.order + 1;
    if (isSpecial(leaf.type) && leaf.mfn === m && leaf.type === type) {
      return leaf.access === access ? 0 : p2mSetEntry(h, d, g, m, order, type, access);
    }
    if (isProtected(h, leaf.type)) {
      refuseReplacing(h, d, g, leaf, { mfn: m, type, order, access });
      domainCrash(h, d, `domain_crash called from p2m.c: d${d.domid} replaces a special entry at ${g.toString(16)}`);
      return -errno.EPERM;
    }
    const pages = 2 ** order;
    if (isRam(leaf.type) && leaf.mfn !== INVALID_MFN) h.frames.clearM2pBlock(leaf.mfn, pages);
    const wasPod = isPod(leaf.type);
    if (wasPod) d.locks.pod.lock();
    const rc = p2mSetEntry(h, d, g, m, order, type, access);
    if (wasPod) {
      if (rc === 0) d.r.podEntryCount -= pages;
      d.locks.pod.unlock();
    } else if (rc !== 0 && isRam(leaf.type) && leaf.mfn !== INVALID_MFN) h.frames.setM2pBlock(leaf.mfn, g, pages);
    return rc;
  } finally {
    p2mUnlock(h, d);
  }
}
