// GNTTABOP_unmap_grant_ref: in batches. All of a batch is unmapped, then one flush, and only then do pins and references go: with
// the references dropped first the granting domain could free a frame that another vCPU still writes to.
import type { Domain } from '../domain/domain.ts';
import type { Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { counter } from '../shared-memory/counters.ts';
import { activeUse } from './active-entry.ts';
import { type HostMapping, unmapGrantsAt } from './host-mapping.ts';
import { unpin } from './map.ts';
import { giveHandle, handleDomid, handleFlags, handleRef, PARTS, setHandleFlags } from './maptrack.ts';
import { gntmap, gntst } from './status.ts';

const C_UNMAP = counter('grant.unmap');

/** Operations of one batch (GNTTAB_UNMAP_BATCH_SIZE). */
export const UNMAP_BATCH = 32;
const PAGE = 4096;

export interface UnmapOp {
  /** Byte address of the host part; 0: leave that part. */
  readonly hostAddr: number;
  /** Machine byte address of the device part; 0: leave that part. */
  readonly devBusAddr: number;
  readonly handle: number;
}

/** What an operation of the batch has taken so far. */
interface Taken {
  readonly rd: Domain;
  readonly ref: number;
  readonly mfn: Mfn;
  readonly handle: number;
  /** Parts taken, with readonly. */
  parts: number;
  /** Nothing is left of the handle. */
  readonly last: boolean;
  readonly mapping: HostMapping | null;
}

/** A status for each of at most UNMAP_BATCH operations. */
export function unmapBatch(h: Host, d: Domain, ops: readonly UnmapOp[]): number[] {
  const taken = ops.map((op) => takeParts(h, d, op));
  const mappings = taken.flatMap((t) => (typeof t === 'number' || !t.mapping ? [] : [t.mapping]));
  if (mappings.length > 0) unmapGrantsAt(h, d, mappings);
  return taken.map((t) => (typeof t === 'number' ? t : complete(h, d, t)));
}

/** Claims the parts that the operation names: nobody else can take them now. A status if it names none. */
function takeParts(h: Host, d: Domain, op: UnmapOp): Taken | number {
  const t = h.grants.of(d);
  if ((handleFlags(t, op.handle) & PARTS) === 0) return gntst.badHandle;
  const rd = h.domain(handleDomid(t, op.handle));
  if (!rd) return gntst.badDomain;
  const { grantTable, grantActive } = rd.locks;
  grantTable.readLock();
  grantActive.lock();
  try {
    const flags = handleFlags(t, op.handle);
    const ref = handleRef(t, op.handle);
    // It may have been given back, and to another mapping, before the lock was held.
    if ((flags & PARTS) === 0 || handleDomid(t, op.handle) !== rd.domid) return gntst.badHandle;
    const { mfn } = activeUse(h.grants.of(rd), ref);
    let parts = 0;
    if (op.devBusAddr !== 0 && (flags & gntmap.device) !== 0) {
      if (op.devBusAddr !== mfn * PAGE) return gntst.badDevAddr;
      parts |= gntmap.device;
    }
    if (op.hostAddr !== 0 && (flags & gntmap.host) !== 0) {
      if (d.isTranslated && op.hostAddr % PAGE !== 0) return gntst.generalError;
      parts |= gntmap.host;
    }
    // An operation that names no part does nothing (XSA-224).
    if (parts === 0) return gntst.okay;
    setHandleFlags(t, op.handle, flags & ~parts);
    const host = d.isTranslated && (parts & gntmap.host) !== 0;
    return {
      rd,
      ref,
      mfn,
      handle: op.handle,
      parts: parts | (flags & gntmap.readonly),
      last: (flags & ~parts & PARTS) === 0,
      mapping: host ? { gfn: op.hostAddr / PAGE, mfn, removed: false } : null,
    };
  } finally {
    grantActive.unlock();
    grantTable.readUnlock();
  }
}

/** After the flush. */
function complete(h: Host, d: Domain, taken: Taken): number {
  const { rd, ref, mfn, handle, parts, last, mapping } = taken;
  if (mapping && !mapping.removed) {
    const t = h.grants.of(d);
    const { grantActive } = rd.locks;
    grantActive.lock();
    setHandleFlags(t, handle, handleFlags(t, handle) | (parts & PARTS));
    grantActive.unlock();
    return gntst.generalError;
  }
  if (last) giveHandle(h, d, handle);
  unpin(h, rd, ref, mfn, parts);
  h.counters.add(C_UNMAP);
  return gntst.okay;
}
