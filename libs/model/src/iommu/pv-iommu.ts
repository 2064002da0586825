// PV-IOMMU: dom0 manages a part of its own bus space and maps frames there, its own or a guest's by (domid, gfn), so that it never
// sees an mfn. As the drafts of 2014-2016 and XenServer's patches; never merged in Xen. A mapping holds a page reference, so
// that a frame cannot be freed while a bus frame names it. Operations of one call share a Batch: IOTLB flushes are put off to
// the end of a slice, and references with them (the XSA-346 pattern). Policy pv-iommu brings back what the historic code did:
//   drop-in-op       a reference is dropped in the operation, before the batch's flush
//   reuse-unflushed  a bus frame is mapped again while its old translation may still be cached
//   one-flag         a frame is referenced once, however many mediators looked it up
// The caller is the hardware domain (pv-iommu-op.ts looks at that) and holds no lock.
import type { Domain } from '../domain/domain.ts';
import { putPage } from '../domain/memory.ts';
import type { Mfn } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { getPageFromGfn, P2M_ALLOC } from '../p2m/get-entry.ts';
import { Leaf } from '../p2m/peek-entry.ts';
import { iommuRightsOf, isRam } from '../p2m/types.ts';
import { counter } from '../shared-memory/counters.ts';
import { FlushFlags, IOMMUF_readable, IOMMUF_writable } from './flags.ts';
import { iommuIotlbFlushAll, iommuLookupPage, iommuMap, iommuUnmap } from './iommu.ts';
import { mapsAllRam } from './one-to-one.ts';
import { bfnFlag } from './pv-iommu-state.ts';

const C_MAP = counter('pvIommu.map');
const C_UNMAP = counter('pvIommu.unmap');
const C_FLUSH = counter('pvIommu.flush');

export const iommuOpFlag = { readable: 1, writeable: 2, noRefCnt: 4, addM2b: 8 } as const;
/** Bits from here on are the page order. */
export const IOMMU_OP_ORDER_SHIFT = 10;
export const iommuCap = { map: 1, mapAllMfns: 2 } as const;

interface Unmapped {
  readonly bfn: number;
  readonly mfn: Mfn;
  readonly holdsRef: boolean;
}

/** What the operations of one slice have not flushed yet. */
export class Batch {
  /** Operations of the whole call: a single one is flushed at once. */
  readonly count: number;
  readonly flush = new FlushFlags();
  unmapped: Unmapped[] = [];

  constructor(count: number) {
    this.count = count;
  }
}

/** What dom0 may do: nothing where its devices walk the EPT, or where all of RAM is mapped one to one anyway. */
export function pvIommuCaps(h: Host, d: Domain): number {
  if (h.pvIommu.count === 0 || !d.has('iommu') || d.has('hapPtShare') || mapsAllRam(d)) return 0;
  return iommuCap.map | (d.isTranslated ? 0 : iommuCap.mapAllMfns);
}

const mayMap = (h: Host, d: Domain): boolean => (pvIommuCaps(h, d) & iommuCap.map) !== 0;

/** The one full flush of a slice, then the references: never the other way round. */
export function endBatch(h: Host, d: Domain, batch: Batch): number {
  const { flush, unmapped } = batch;
  batch.unmapped = [];
  let rc = 0;
  if (unmapped.length > 0) {
    rc = iommuIotlbFlushAll(h, d, flush.bits);
    h.counters.add(C_FLUSH);
  }
  flush.bits = 0;
  // A flush that failed leaves the old translations: the frames stay referenced for good.
  if (rc === 0) for (const { mfn, holdsRef } of unmapped) if (holdsRef) putPage(h, mfn);
  return rc;
}

/** A reference goes though the IOTLB may hold the frame: harmless only while somebody else keeps it. */
function dropUnflushed(h: Host, { bfn, mfn }: Unmapped): void {
  putPage(h, mfn);
  if (h.frames.has(mfn, frameFlag.allocated) || Atomics.load(h.frames.count, mfn) > 0) return;
  h.platform.violation({
    invariant: 'noFrameFreedWhileAnyTlbHoldsIt',
    text: `mfn ${mfn.toString(16)} is free, and no flush came since bfn ${bfn.toString(16)} named it`,
    evidence: { mfn, bfn },
  });
}

function unmapRecord(h: Host, d: Domain, bfn: number, mfn: number, flags: number, batch: Batch): number {
  if (iommuUnmap(h, d, bfn, 1, batch.flush) !== 0) return -errno.EIO;
  h.pvIommu.clear(bfn);
  h.counters.add(C_UNMAP);
  batch.unmapped.push({ bfn, mfn: mfn as Mfn, holdsRef: (flags & bfnFlag.noRef) === 0 });
  return 0;
}

/** After an unmap, without the lock: what the operation itself still does. */
function afterUnmap(h: Host, d: Domain, batch: Batch): number {
  if (batch.count === 1) return endBatch(h, d, batch) === 0 ? 0 : -errno.EIO;
  if (h.config.policies.pvIommu !== 'drop-in-op') return 0;
  const last = batch.unmapped.at(-1);
  if (last?.holdsRef) {
    batch.unmapped[batch.unmapped.length - 1] = { ...last, holdsRef: false };
    dropUnflushed(h, last);
  }
  return 0;
}

/** A bus frame that this slice unmapped is about to be mapped again. */
function beforeReuse(h: Host, d: Domain, bfn: number, batch: Batch): number {
  const at = batch.unmapped.findIndex((u) => u.bfn === bfn);
  if (at < 0) return 0;
  if (h.config.policies.pvIommu !== 'reuse-unflushed') return endBatch(h, d, batch);
  const old = batch.unmapped[at] as Unmapped; // found just above
  batch.unmapped[at] = { ...old, holdsRef: false };
  h.platform.violation({
    invariant: 'busFrameIsCleanBeforeReuse',
    text: `bfn ${bfn.toString(16)} is mapped again, and its unmap from mfn ${old.mfn.toString(16)} is not flushed`,
    evidence: { bfn, mfn: old.mfn },
  });
  if (old.holdsRef) dropUnflushed(h, old);
  return 0;
}

/** Maps a frame that the caller holds a reference of, which the record takes over. pvIommu lock held; 0, -EPERM or -EIO. */
function mapRecord(
  h: Host,
  d: Domain,
  bfn: number,
  m: Mfn,
  flags: number,
  users: number,
  kept: number,
  batch: Batch,
): number {
  if (h.pvIommu.record(bfn) !== null || iommuLookupPage(h, d, bfn).rc === 0) return -errno.EPERM;
  const io =
    ((flags & iommuOpFlag.readable) !== 0 ? IOMMUF_readable : 0) |
    ((flags & iommuOpFlag.writeable) !== 0 ? IOMMUF_writable : 0);
  if (iommuMap(h, d, bfn, m, 1, io, batch.flush) !== 0) return -errno.EIO;
  h.pvIommu.set(bfn, m, users, kept);
  // The first one stays the frame's: whoever looks it up must find a bus frame that outlives him.
  if ((flags & iommuOpFlag.addM2b) !== 0 && h.pvIommu.busOf(m) < 0) h.pvIommu.setBusOf(m, bfn);
  h.counters.add(C_MAP);
  return 0;
}

/** -ENOSPC: any order but 0; -EPERM: no right to map, or a bus frame that is not the caller's to manage. */
function mapMistake(h: Host, d: Domain, bfn: number, flags: number): number {
  if (flags >>> IOMMU_OP_ORDER_SHIFT !== 0) return -errno.ENOSPC;
  if (!mayMap(h, d) || !h.pvIommu.covers(bfn)) return -errno.EPERM;
  return (flags & (iommuOpFlag.readable | iommuOpFlag.writeable)) === 0 ? -errno.EINVAL : 0;
}

/** A reference of the frame that map_page names: the caller's own, or with map_all_mfns any RAM. -1: not his. */
function ownFrame(h: Host, d: Domain, gfn: number): Mfn | -1 {
  const leaf = new Leaf();
  if ((pvIommuCaps(h, d) & iommuCap.mapAllMfns) !== 0) {
    const owner = h.frames.valid(gfn as Mfn) ? h.frames.ownerOf(gfn as Mfn) : -1;
    return owner >= 0 && h.frames.getPage(gfn as Mfn, owner as typeof d.domid) ? (gfn as Mfn) : -1;
  }
  const found = getPageFromGfn(h, d, gfn, P2M_ALLOC, leaf);
  if (found < 0 || isRam(leaf.type)) return found;
  putPage(h, found as Mfn);
  return -1;
}

/** 0; -EPERM: no capability, not the owner, or the bus frame is in use (no silent remap); -ENOSPC; -EINVAL; -EIO. */
export function mapPage(h: Host, d: Domain, bfn: number, gfn: number, flags: number, batch: Batch): number {
  const mistake = mapMistake(h, d, bfn, flags);
  if (mistake !== 0) return mistake;
  const m = ownFrame(h, d, gfn);
  if (m < 0) return -errno.EPERM;
  if (beforeReuse(h, d, bfn, batch) !== 0) {
    putPage(h, m as Mfn);
    return -errno.EIO;
  }
  const noRef = (flags & iommuOpFlag.noRefCnt) !== 0;
  h.pvIommuLock.lock();
  const rc = mapRecord(h, d, bfn, m as Mfn, flags, 0, noRef ? bfnFlag.noRef : 0, batch);
  h.pvIommuLock.unlock();
  if (rc !== 0 || noRef) putPage(h, m as Mfn);
  return rc;
}

/** 0; -ENOENT: map_page mapped nothing there; -EBUSY (ours): a mediator has looked it up; -EIO. */
export function unmapPage(h: Host, d: Domain, bfn: number, batch: Batch): number {
  if (!h.pvIommu.covers(bfn)) return -errno.ENOENT;
  h.pvIommuLock.lock();
  const record = h.pvIommu.record(bfn);
  let rc: number = -errno.ENOENT;
  if (record !== null && (record.flags & bfnFlag.foreign) === 0) {
    rc = record.users > 0 ? -errno.EBUSY : unmapRecord(h, d, bfn, record.mfn, record.flags, batch);
  }
  h.pvIommuLock.unlock();
  return rc === 0 ? afterUnmap(h, d, batch) : rc;
}

/**
 * A reference of ordinary RAM at `gfn` of the guest, with the rights that the guest's own devices have there. -EPERM: nothing of
 * the kind. The look-up and the reference are one step, so what is mapped cannot be stale.
 */
function guestFrame(h: Host, fd: Domain, gfn: number, flags: number): Mfn | number {
  const leaf = new Leaf();
  const found = getPageFromGfn(h, fd, gfn, P2M_ALLOC, leaf);
  if (found < 0) return -errno.EPERM;
  const wanted = flags & (iommuOpFlag.readable | iommuOpFlag.writeable); // as R and W of an I/O entry
  const allowed = isRam(leaf.type) && (iommuRightsOf(leaf.type, leaf.access) & wanted) === wanted;
  if (allowed && !h.frames.has(found as Mfn, frameFlag.special)) return found;
  putPage(h, found as Mfn);
  return -errno.EPERM;
}

/**
 * A guest's frame at a bus frame; `fd` is another, HVM domain. 0; -EPERM: no right, no RAM of that kind there, or the bus frame
 * is in use; -ENOSPC; -EINVAL; -EIO. Historic: a frame that is flagged already gets no second reference.
 */
export function mapForeignPage(
  h: Host,
  d: Domain,
  bfn: number,
  fd: Domain,
  gfn: number,
  flags: number,
  batch: Batch,
): number {
  const mistake = mapMistake(h, d, bfn, flags);
  if (mistake !== 0) return mistake;
  const m = guestFrame(h, fd, gfn, flags);
  if (m < 0) return m;
  if (beforeReuse(h, d, bfn, batch) !== 0) {
    putPage(h, m as Mfn);
    return -errno.EIO;
  }
  h.pvIommuLock.lock();
  const flagged = h.config.policies.pvIommu === 'one-flag' && h.pvIommu.busOf(m) >= 0;
  const kept = bfnFlag.foreign | (flagged ? bfnFlag.noRef : 0);
  const rc = mapRecord(h, d, bfn, m as Mfn, flags, 1, kept, batch);
  h.pvIommuLock.unlock();
  if (rc !== 0 || flagged) putPage(h, m as Mfn);
  return rc;
}

/**
 * The bus frame that a guest's frame has already, one user more. -ENOENT: it has none; -EPERM: no RAM there. Where all of RAM
 * is mapped one to one it is the mfn. (Deviation: no reference is taken there, there is no record to hold it.)
 */
export function lookupForeignPage(h: Host, d: Domain, fd: Domain, gfn: number): number {
  const m = guestFrame(h, fd, gfn, iommuOpFlag.readable);
  if (m < 0) return m;
  let bfn: number = mapsAllRam(d) ? m : -errno.ENOENT;
  if (mayMap(h, d)) {
    h.pvIommuLock.lock();
    const known = h.pvIommu.busOf(m);
    const record = known < 0 ? null : h.pvIommu.record(known);
    if (record !== null) {
      bfn = known;
      if (h.config.policies.pvIommu !== 'one-flag') h.pvIommu.setUsers(known, record.users + 1);
    }
    h.pvIommuLock.unlock();
  }
  putPage(h, m as Mfn);
  return bfn;
}

/**
 * One user less; with the last one a mapping that map_foreign_page made goes, one that map_page made stays. 0; -ENOENT: nobody
 * uses it; -EIO.
 */
export function unmapForeignPage(h: Host, d: Domain, bfn: number, batch: Batch): number {
  if (!h.pvIommu.covers(bfn)) return -errno.ENOENT;
  h.pvIommuLock.lock();
  const record = h.pvIommu.record(bfn);
  let rc = 0;
  let gone = false;
  if (record === null || record.users === 0) rc = -errno.ENOENT;
  else if (record.users > 1 || (record.flags & bfnFlag.foreign) === 0) h.pvIommu.setUsers(bfn, record.users - 1);
  else {
    rc = unmapRecord(h, d, bfn, record.mfn, record.flags, batch);
    gone = rc === 0;
  }
  h.pvIommuLock.unlock();
  return gone ? afterUnmap(h, d, batch) : rc;
}
