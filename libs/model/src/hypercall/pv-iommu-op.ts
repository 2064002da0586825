// The calls by which dom0 places guests' frames in its bus space: iommu_op (PV-IOMMU, iommu/pv-iommu.ts) with a status per
// operation, and gfn_to_mfn, the query that XenGT was built on (its XENMEM_get_mfn_from_pfn). Neither was ever merged in Xen.
import type { Domain } from '../domain/domain.ts';
import { putPage } from '../domain/memory.ts';
import type { Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import {
  Batch,
  endBatch,
  IOMMU_OP_ORDER_SHIFT,
  lookupForeignPage,
  mapForeignPage,
  mapPage,
  pvIommuCaps,
  unmapForeignPage,
  unmapPage,
} from '../iommu/pv-iommu.ts';
import { getPageFromGfn, P2M_ALLOC } from '../p2m/get-entry.ts';
import { Leaf } from '../p2m/peek-entry.ts';
import { isRam } from '../p2m/types.ts';
import { type CallOf, extentAt, extentCount, type IommuOp } from './calls.ts';
import { extentsOk, isCount, isExtentCount, isFrame, isPrivileged } from './checks.ts';
import { type Caller, type ContinuationState, done, goOn, type Outcome, rc } from './continuation.ts';
import { errno } from './errno.ts';

/** gfns of one query: its answer carries a number for each. */
const MAX_QUERY = 65_536;

/** The guest that a foreign operation names, or its error: -ENXIO unknown, -EPERM oneself or not HVM. */
function foreignDomain(h: Host, d: Domain, id: unknown): Domain | number {
  const fd = isCount(id) ? h.domain(id) : null;
  if (!fd) return -errno.ENXIO;
  if (fd === d || !fd.isTranslated) return -errno.EPERM;
  // A dying domain's frames are on their way home.
  return fd.dying ? -errno.ENXIO : fd;
}

function foreign(h: Host, d: Domain, op: IommuOp, batch: Batch): number {
  const fd = foreignDomain(h, d, op.domid);
  if (typeof fd === 'number') return fd;
  if (!isFrame(op.gfn)) return -errno.EPERM;
  if (op.kind === 'lookup_foreign_page') return lookupForeignPage(h, d, fd, op.gfn);
  return mapForeignPage(h, d, op.bfn, fd, op.gfn, op.flags, batch);
}

/** 0 or an errno; query_caps answers the capabilities, lookup_foreign_page the bus frame. */
function runOp(h: Host, d: Domain, op: IommuOp, batch: Batch): number {
  if (typeof op !== 'object' || op === null || !isFrame(op.bfn) || !isCount(op.flags) || op.flags > 0xffff_ffff) {
    return -errno.EINVAL;
  }
  switch (op.kind) {
    case 'query_caps':
      return pvIommuCaps(h, d);
    case 'map_page':
      return isFrame(op.gfn) ? mapPage(h, d, op.bfn, op.gfn, op.flags, batch) : -errno.EPERM;
    case 'unmap_page':
      if (op.flags >>> IOMMU_OP_ORDER_SHIFT !== 0) return -errno.ENOSPC;
      return unmapPage(h, d, op.bfn, batch);
    case 'map_foreign_page':
    case 'lookup_foreign_page':
      return foreign(h, d, op, batch);
    case 'unmap_foreign_page':
      return unmapForeignPage(h, d, op.bfn, batch);
    default:
      return -errno.ENOSYS;
  }
}

/** rc 0 with a status per operation; -ENOSYS for anybody but the hardware domain. A slice never ends with an unflushed unmap. */
export function iommuOp(h: Host, caller: Caller, call: CallOf<'iommu_op'>, state: ContinuationState | null): Outcome {
  if (!isPrivileged(caller)) return rc(-errno.ENOSYS);
  const { ops } = call;
  if (!Array.isArray(ops) || !isExtentCount(ops.length)) return rc(-errno.EFAULT);
  const d = caller.domain;
  const statuses = [...(state?.values ?? [])];
  const start = statuses.length;
  const batch = new Batch(ops.length);
  for (let i = start; i < ops.length; i++) {
    if (i !== start && caller.preempt()) {
      const failed = endBatch(h, d, batch);
      return failed === 0 ? goOn({ at: i, values: statuses }) : rc(-errno.EIO);
    }
    statuses.push(runOp(h, d, ops[i] as IommuOp, batch)); // runOp looks at its shape
  }
  return endBatch(h, d, batch) === 0 ? done({ rc: 0, statuses }) : rc(-errno.EIO);
}

/**
 * The frame behind each gfn of another domain, -1 where there is no RAM (PoD is populated first). Nothing is held: the answer may
 * be stale before it arrives. -EPERM but for the control domain, -ESRCH, -EFAULT, -E2BIG.
 */
export function gfnToMfn(h: Host, caller: Caller, call: CallOf<'gfn_to_mfn'>): Outcome {
  if (!isPrivileged(caller)) return rc(-errno.EPERM);
  const fd = isCount(call.domid) ? h.domain(call.domid) : null;
  if (!fd || fd.dying) return rc(-errno.ESRCH);
  if (!extentsOk(call.gfns)) return rc(-errno.EFAULT);
  const count = extentCount(call.gfns);
  if (count > MAX_QUERY) return rc(-errno.E2BIG);
  const leaf = new Leaf();
  const mfns: number[] = [];
  for (let i = 0; i < count; i++) {
    const gfn = extentAt(call.gfns, i, 0);
    const found = isFrame(gfn) ? getPageFromGfn(h, fd, gfn, P2M_ALLOC, leaf) : -1;
    mfns.push(found >= 0 && isRam(leaf.type) ? found : -1);
    if (found >= 0) putPage(h, found as Mfn);
  }
  return done({ rc: 0, mfns });
}
