// XENMEM add_to_physmap, add_to_physmap_batch, remove_from_physmap: what a gfn of a domain shows. Frames move, are unhooked
// or replaced; whatever plain RAM was at the destination is freed.
import type { Domain } from '../domain/domain.ts';
import { putPage } from '../domain/memory.ts';
import { INVALID_MFN, MAX_GFN, type Mfn } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import { mapTableFrame } from '../grant/table.ts';
import type { Host } from '../host.ts';
import { FLUSHF_added, FLUSHF_modified } from '../iommu/flags.ts';
import { iommuIotlbFlush } from '../iommu/iommu.ts';
import { p2mAddForeign } from '../p2m/foreign.ts';
import { getGfn, getPageFromGfn, P2M_ALLOC, putGfn } from '../p2m/get-entry.ts';
import { mapMmioRegions } from '../p2m/mmio.ts';
import { Leaf } from '../p2m/peek-entry.ts';
import {
  clearMmioEntry,
  guestPhysmapAddPage,
  guestRemovePage,
  isProtected,
  p2mRemovePage,
  removeEntry,
} from '../p2m/physmap.ts';
import { isSpecial, p2mType } from '../p2m/types.ts';
import { counter } from '../shared-memory/counters.ts';
import { type CallOf, extentAt, extentCount, physmapSpace } from './calls.ts';
import { domainByAnyId, extentsOk, isCount, isFrame, isPrivileged, targetDomain } from './checks.ts';
import { type Caller, type ContinuationState, done, goOn, type Outcome, rc } from './continuation.ts';
import { errno } from './errno.ts';

const C_UNMAPPED = counter('foreign.unmapped');

/** Pages that one slice of a range move may hold references of while the IOMMU flush is put off (XSA-346). */
const RANGE_SLICE = 16;

export function addToPhysmap(
  h: Host,
  caller: Caller,
  call: CallOf<'add_to_physmap'>,
  state: ContinuationState | null,
): Outcome {
  // Xen: unknown domain, translated, gpfn, XSM, in that order.
  const named = domainByAnyId(h, caller, call.domid);
  if (!named) return rc(-errno.ESRCH);
  if (!named.isTranslated) return rc(-errno.EACCES);
  const { space, idx, gpfn } = call;
  if (!isFrame(gpfn) || !isCount(space) || !isCount(idx)) return rc(-errno.EINVAL);
  const d = targetDomain(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  if (space === physmapSpace.devMmio && !mayMapMmio(caller, d)) return rc(-errno.EACCES);
  if (space === physmapSpace.gmfnRange) return moveRange(h, caller, d, call, state);
  if (space === physmapSpace.gmfnForeign) return rc(-errno.ENOSYS);
  return rc(addOne(h, d, space, idx, gpfn, null));
}

const mayMapMmio = (caller: Caller, d: Domain): boolean => d === caller.domain && d.isHardware;

/** xenmem_add_to_physmap_one. `held` collects a reference of each moved page while flushes are put off. */
function addOne(h: Host, d: Domain, space: number, idx: number, gpfn: number, held: Mfn[] | null): number {
  switch (space) {
    case physmapSpace.sharedInfo:
      return idx === 0 && d.r.sharedInfo > 0 ? placePage(h, d, (d.r.sharedInfo - 1) as Mfn, gpfn) : -errno.EINVAL;
    case physmapSpace.grantTable:
      return mapTableFrame(h, d, idx, (m) => placePage(h, d, m, gpfn));
    case physmapSpace.gmfn:
    case physmapSpace.gmfnRange:
      return isFrame(idx) ? movePage(h, d, idx, gpfn, held) : -errno.EINVAL;
    case physmapSpace.devMmio:
      return isFrame(idx) ? Math.min(0, mapMmioRegions(h, d, gpfn, 1, idx)) : -errno.EINVAL;
    default:
      return -errno.ENOSYS;
  }
}

/** XENMAPSPACE_gmfn: the frame at `from` moves to `to`; its old place becomes a hole. */
function movePage(h: Host, d: Domain, from: number, to: number, held: Mfn[] | null): number {
  const leaf = new Leaf();
  getGfn(h, d, from, P2M_ALLOC, leaf);
  try {
    const { mfn, type } = leaf;
    if (type !== p2mType.ramRw && type !== p2mType.ramLogdirty) return -errno.EACCES;
    if (mfn === INVALID_MFN || !h.frames.getPage(mfn, d.domid)) return -errno.EINVAL;
    // Under the p2m lock, which is what makes two moves of one page exclude each other (XSA-379).
    const result = h.frames.gfnOf(mfn) === from ? placePage(h, d, mfn, to) : -errno.EXDEV;
    if (result === 0 && held) held.push(mfn);
    else putPage(h, mfn);
    return result;
  } finally {
    putGfn(h, d);
  }
}

/** Puts a frame of `d` at `gpfn`, after taking it from where it is and freeing what is there. The caller keeps it alive. */
export function placePage(h: Host, d: Domain, m: Mfn, gpfn: number): number {
  const leaf = new Leaf();
  // Before XSA-379 whoever moved the page meanwhile was not seen.
  const stale = h.config.policies.p2mLookup === 'stale';
  const seen = stale ? h.frames.gfnOf(m) : -1;
  getGfn(h, d, gpfn, P2M_ALLOC, leaf);
  try {
    if (leaf.type === p2mType.mmioDirect && isProtected(h, leaf.type)) return -errno.EPERM;
    if (leaf.mfn !== INVALID_MFN && leaf.mfn !== m) {
      const rc = displace(h, d, gpfn, leaf);
      if (rc !== 0) return rc;
    }
    const old = stale ? seen : h.frames.gfnOf(m);
    if (old >= 0) {
      const rc = p2mRemovePage(h, d, old, m, 0);
      if (rc !== 0 && !stale) return rc;
    }
    return guestPhysmapAddPage(h, d, gpfn, m, 0);
  } finally {
    putGfn(h, d);
  }
}

/** A page of Xen's is only unhooked; plain RAM is given back to the host, whatever flushes are put off. */
function displace(h: Host, d: Domain, gpfn: number, leaf: Leaf): number {
  if (leaf.type === p2mType.mmioDirect) return clearMmioEntry(h, d, gpfn);
  if (h.frames.valid(leaf.mfn) && h.frames.has(leaf.mfn, frameFlag.special))
    return removeEntry(h, d, gpfn, leaf.mfn, 0);
  return guestRemovePage(h, d, gpfn);
}

/** gmfn_range: `size` pages from idx to gpfn. An overlapping move upwards starts at the top. */
function moveRange(
  h: Host,
  caller: Caller,
  d: Domain,
  call: CallOf<'add_to_physmap'>,
  state: ContinuationState | null,
): Outcome {
  const { idx, gpfn, size } = call;
  if (!isCount(size)) return rc(-errno.EINVAL);
  if (idx + size - 1 > MAX_GFN || gpfn + size - 1 > MAX_GFN) return rc(-errno.EOVERFLOW);
  const start = state?.at ?? 0;
  if (size < start) return rc(-errno.EILSEQ);
  const downwards = idx < gpfn && idx + size > gpfn;
  const batched = d.has('iommu');
  const limit = batched ? Math.min(size, start + RANGE_SLICE) : size;
  const held: Mfn[] = [];
  let at = start;
  let result = 0;
  if (batched) h.iommu.dontFlush = true;
  while (at < limit) {
    const i = downwards ? size - 1 - at : at;
    result = addOne(h, d, physmapSpace.gmfnRange, idx + i, gpfn + i, batched ? held : null);
    if (result !== 0) break;
    at++;
    if (at < limit && caller.preempt()) break;
  }
  if (batched) {
    h.iommu.dontFlush = false;
    const flushed = endBatch(h, d, call, start, at, downwards, held);
    result = result || flushed;
  }
  if (result !== 0) return rc(result);
  return at < size ? goOn({ at }) : rc(0);
}

/** XSA-346: the old places are flushed before the references go, the new ones after. */
function endBatch(
  h: Host,
  d: Domain,
  call: CallOf<'add_to_physmap'>,
  start: number,
  end: number,
  downwards: boolean,
  held: readonly Mfn[],
): number {
  const pages = end - start;
  const offset = downwards ? call.size - end : start;
  const old = iommuIotlbFlush(h, d, call.idx + offset, pages, FLUSHF_modified);
  for (const m of held) putPage(h, m);
  const fresh = iommuIotlbFlush(h, d, call.gpfn + offset, pages, FLUSHF_added | FLUSHF_modified);
  return old !== 0 ? old : fresh;
}

/** rc 0 even when entries fail: the caller looks in errs[]. */
export function addToPhysmapBatch(
  h: Host,
  caller: Caller,
  call: CallOf<'add_to_physmap_batch'>,
  state: ContinuationState | null,
): Outcome {
  const { space, idxs, gpfns } = call;
  const named = domainByAnyId(h, caller, call.domid);
  if (!named) return rc(-errno.ESRCH);
  if (!named.isTranslated) return rc(-errno.EACCES);
  if (!isCount(space) || !extentsOk(idxs) || !extentsOk(gpfns) || extentCount(idxs) !== extentCount(gpfns)) {
    return rc(-errno.EFAULT);
  }
  if (space === physmapSpace.gmfnRange) return rc(-errno.EOPNOTSUPP);
  if (space === physmapSpace.devMmio && call.foreignDomid !== 0) return rc(-errno.EOPNOTSUPP);
  const d = targetDomain(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  if (space === physmapSpace.devMmio && !mayMapMmio(caller, d)) return rc(-errno.EACCES);
  const size = extentCount(idxs);
  const errs = [...(state?.values ?? [])];
  const start = errs.length;
  for (let i = start; i < size; i++) {
    if (i !== start && caller.preempt()) return goOn({ at: i, values: errs });
    const gpfn = extentAt(gpfns, i, 0);
    if (!isFrame(gpfn)) return rc(-errno.EINVAL);
    errs.push(addBatchEntry(h, caller, d, call, extentAt(idxs, i, 0), gpfn));
  }
  return done({ rc: 0, errs });
}

function addBatchEntry(
  h: Host,
  caller: Caller,
  d: Domain,
  call: CallOf<'add_to_physmap_batch'>,
  idx: number,
  gpfn: number,
): number {
  if (!isFrame(idx)) return -errno.EINVAL;
  if (call.space !== physmapSpace.gmfnForeign) return addOne(h, d, call.space, idx, gpfn, null);
  const foreign = domainByAnyId(h, caller, call.foreignDomid);
  if (!foreign) return -errno.ESRCH;
  // Mapping another domain's memory is the control domain's privilege (XSM target check).
  if (foreign !== caller.domain && !isPrivileged(caller)) return -errno.EPERM;
  if (foreign.dying || d.dying) return -errno.EINVAL;
  return p2mAddForeign(h, d, idx, gpfn, foreign);
}

/**
 * Plain RAM is unmapped, not freed. The lookup allocates, so a PoD gfn is populated first and its frame left without a gfn.
 * A foreign entry gives up its reference.
 */
export function removeFromPhysmap(h: Host, caller: Caller, call: CallOf<'remove_from_physmap'>): Outcome {
  const named = domainByAnyId(h, caller, call.domid);
  if (!named) return rc(-errno.ESRCH);
  if (!named.isTranslated) return rc(-errno.EACCES);
  const d = targetDomain(h, caller, call.domid);
  if (typeof d === 'number') return rc(d);
  if (!isFrame(call.gpfn)) return rc(-errno.EINVAL);
  const leaf = new Leaf();
  const m = getPageFromGfn(h, d, call.gpfn, P2M_ALLOC, leaf);
  if (m < 0) return rc(-errno.ENOENT);
  const result = p2mRemovePage(h, d, call.gpfn, m as Mfn, 0);
  putPage(h, m as Mfn);
  if (result === 0 && isSpecial(leaf.type)) h.counters.add(C_UNMAPPED);
  return rc(result);
}
