// GNTTABOP_map_grant_ref: one operation. The entry is pinned first, then the frame gets its references, then the mapper its
// mapping; whatever fails is undone in the opposite order.
import type { Domain } from '../domain/domain.ts';
import { putPage } from '../domain/memory.ts';
import type { Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { counter } from '../shared-memory/counters.ts';
import {
  activeUse,
  addPin,
  beginUse,
  dropPin,
  isWritten,
  type Pin,
  pin,
  pinCount,
  pinsFull,
  settleStatus,
} from './active-entry.ts';
import { pagedFrame, referAgain } from './frame-lookup.ts';
import type { GrantTable } from './grant-state.ts';
import { mapGrantAt } from './host-mapping.ts';
import { fillHandle, giveHandle, takeHandle } from './maptrack.ts';
import { grantedBy, setStatus } from './shared-entry.ts';
import { gntmap, gntst } from './status.ts';

const C_MAP = counter('grant.map');

const PAGE = 4096;
const DEVICE_OR_HOST = gntmap.device | gntmap.host;
const NOT_FOR_HVM = gntmap.device | gntmap.application | gntmap.containsPte;

export interface MapOp {
  /** Byte address where an HVM mapper wants it. */
  readonly hostAddr: number;
  readonly flags: number;
  readonly ref: number;
  /** Who grants. */
  readonly domid: number;
}

export interface MapResult {
  status: number;
  handle: number;
  /** Machine byte address, for a PV mapper's devices. */
  devBusAddr: number;
}

const failed = (status: number): MapResult => ({ status, handle: 0, devBusAddr: 0 });

/** Which pins a mapping with such flags holds; each comes with a reference of the frame. */
export function pinsFor(flags: number): readonly Pin[] {
  const readonly = (flags & gntmap.readonly) !== 0;
  const device = (flags & gntmap.device) !== 0;
  const host = (flags & gntmap.host) !== 0;
  return [
    ...(device ? [readonly ? pin.deviceRead : pin.deviceWrite] : []),
    ...(host ? [readonly ? pin.hostRead : pin.hostWrite] : []),
  ];
}

/** The caller has said that an operation of `d` is in flight (`enterGrantOp`). */
export function mapGrantRef(h: Host, d: Domain, op: MapOp): MapResult {
  if ((op.flags & DEVICE_OR_HOST) === 0) return failed(gntst.badGntref);
  if (d.isTranslated) {
    if ((op.flags & NOT_FOR_HVM) !== 0) return failed(gntst.generalError);
    if (op.hostAddr % PAGE !== 0) return failed(gntst.generalError);
  }
  const rd = h.domain(op.domid);
  if (!rd) return failed(gntst.badDomain);
  const handle = takeHandle(h, d);
  if (handle === 0) return failed(gntst.noSpace);
  const pinned = pinForMap(h, d, rd, op);
  if (pinned.status !== gntst.okay) {
    giveHandle(h, d, handle);
    return failed(pinned.status);
  }
  const status = d.isTranslated
    ? mapGrantAt(h, d, op.hostAddr / PAGE, pinned.mfn, (op.flags & gntmap.readonly) !== 0)
    : gntst.okay;
  if (status !== gntst.okay) {
    unpin(h, rd, op.ref, pinned.mfn, op.flags);
    giveHandle(h, d, handle);
    return failed(status);
  }
  fillHandle(h.grants.of(d), handle, op.domid, op.ref, op.flags);
  h.counters.add(C_MAP);
  return { status, handle, devBusAddr: d.isTranslated ? 0 : pinned.mfn * PAGE };
}

interface Pinned {
  readonly status: number;
  readonly mfn: Mfn;
}

const notPinned = (status: number): Pinned => ({ status, mfn: -1 as Mfn });

function pinForMap(h: Host, d: Domain, rd: Domain, op: MapOp): Pinned {
  const t = h.grants.of(rd);
  const { grantTable, grantActive } = rd.locks;
  grantTable.readLock();
  grantActive.lock();
  try {
    if (op.ref >= t.entries) return notPinned(gntst.badGntref);
    const wanted = pinsFor(op.flags);
    const found = pinCount(t, op.ref) > 0 ? pinAgain(h, d, rd, t, op) : pinFirst(h, d, rd, t, op);
    if (found.status !== gntst.okay) return found;
    // One reference came with the frame; a mapping of both parts holds two.
    if (wanted.length === 2 && !h.frames.getPage(found.mfn, rd.domid)) {
      settleStatus(t, op.ref);
      putPage(h, found.mfn);
      return notPinned(gntst.generalError);
    }
    for (const kind of wanted) addPin(t, op.ref, kind);
    return found;
  } finally {
    grantActive.unlock();
    grantTable.readUnlock();
  }
}

const isReadonly = (op: MapOp): boolean => (op.flags & gntmap.readonly) !== 0;

function pinFirst(h: Host, d: Domain, rd: Domain, t: GrantTable, op: MapOp): Pinned {
  const status = setStatus(t, op.ref, d.domid, isReadonly(op), false);
  if (status !== gntst.okay) return notPinned(status);
  const { frame } = grantedBy(t, op.ref);
  const m = pagedFrame(h, rd, frame);
  if (m < 0) {
    settleStatus(t, op.ref);
    return notPinned(gntst.badPage);
  }
  beginUse(t, op.ref, { domid: d.domid, mfn: m as Mfn, start: 0, length: PAGE, from: null });
  return { status: gntst.okay, mfn: m as Mfn };
}

/** The entry is in use: what it says now does not count, only what was found when it was pinned first (XSA-500). */
function pinAgain(h: Host, d: Domain, rd: Domain, t: GrantTable, op: MapOp): Pinned {
  const use = activeUse(t, op.ref);
  if (use.domid !== d.domid || use.from !== null || use.length !== PAGE || pinsFull(t, op.ref)) {
    return notPinned(gntst.generalError);
  }
  if (!isReadonly(op) && !isWritten(t, op.ref)) {
    const status = setStatus(t, op.ref, d.domid, false, false);
    if (status !== gntst.okay) return notPinned(status);
  }
  if (referAgain(h, rd, op.ref, use.mfn, rd)) return { status: gntst.okay, mfn: use.mfn };
  settleStatus(t, op.ref);
  return notPinned(gntst.generalError);
}

/**
 * Pins of a mapping go, then the marks that they accounted for, then the references: a pinned entry's frame is always referenced
 * (XSA-236).
 */
export function unpin(h: Host, rd: Domain, ref: number, m: Mfn, flags: number): void {
  const t = h.grants.of(rd);
  const { grantTable, grantActive } = rd.locks;
  const kinds = pinsFor(flags);
  grantTable.readLock();
  grantActive.lock();
  for (const kind of kinds) dropPin(t, ref, kind);
  settleStatus(t, ref);
  grantActive.unlock();
  grantTable.readUnlock();
  // With the last one the granting domain's number may be given away: nothing of it may be used after.
  for (let i = 0; i < kinds.length; i++) putPage(h, m);
}
