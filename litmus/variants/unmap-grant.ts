// Unmapping a grant in two passes, as it was before two fixes of June 2017: the first takes the named parts off the handle under the
// entry's lock, then comes the TLB flush of the batch, then the second lets go of the page and of the handle.
import type { World } from '#explore/world';
import type { Domain } from '#model/domain/domain';
import { putPage } from '#model/domain/memory';
import type { Mfn } from '#model/frames/addresses';
import { activeUse, dropPin, settleStatus } from '#model/grant/active-entry';
import { pinsFor } from '#model/grant/map';
import { giveHandle, handleDomid, handleFlags, handleRef, PARTS, setHandleFlags } from '#model/grant/maptrack';
import { gntmap } from '#model/grant/status';
import type { UnmapOp } from '#model/grant/unmap';
import { step, stepKind } from '#model/shared-memory/step';

interface First {
  readonly d: Domain;
  readonly mfn: Mfn;
  /** Flags of the handle as they were found, and the parts that were taken off it. */
  readonly saved: number;
  readonly taken: number;
}

function firstPass(w: World, domid: number, op: UnmapOp): First | null {
  const { grants } = w.host;
  const d = w.domain(domid);
  const t = grants.of(d);
  const rd = w.domain(handleDomid(t, op.handle));
  const { grantTable, grantActive } = rd.locks;
  grantTable.readLock();
  grantActive.lock();
  try {
    const saved = handleFlags(t, op.handle);
    const ref = handleRef(t, op.handle);
    const { mfn } = activeUse(grants.of(rd), ref);
    const device = op.devBusAddr !== 0 ? saved & gntmap.device : 0;
    if ((saved & PARTS) === 0 || (device !== 0 && op.devBusAddr !== mfn * 4096)) return null;
    const taken = device | (op.hostAddr !== 0 ? saved & gntmap.host : 0);
    setHandleFlags(t, op.handle, saved & ~taken);
    for (const kind of pinsFor(taken | (saved & gntmap.readonly))) dropPin(grants.of(rd), ref, kind);
    settleStatus(grants.of(rd), ref);
    return { d, mfn, saved, taken };
  } finally {
    grantActive.unlock();
    grantTable.readUnlock();
    step(stepKind.cpuFlush, domid);
  }
}

/** Before XSA-224: the second pass puts a reference for a device part that the handle had, whether or not this call named it. */
export function unmapBySavedFlags(w: World, domid: number, op: UnmapOp): void {
  const first = firstPass(w, domid, op);
  if (first === null) return;
  const { d, mfn, saved, taken } = first;
  if ((saved & gntmap.device) !== 0) putPage(w.host, mfn);
  if ((taken & gntmap.host) !== 0) putPage(w.host, mfn);
  if (taken !== 0 && (saved & ~taken & PARTS) === 0) giveHandle(w.host, d, op.handle);
}

/** Before XSA-218: the second pass frees the handle if it has no parts any more, whoever took the last one. */
export function unmapFreesBareHandle(w: World, domid: number, op: UnmapOp): void {
  const first = firstPass(w, domid, op);
  if (first === null) return;
  const { d, mfn, taken } = first;
  step(stepKind.read, op.handle);
  if ((handleFlags(w.host.grants.of(d), op.handle) & PARTS) === 0) giveHandle(w.host, d, op.handle);
  for (const _ of pinsFor(taken)) putPage(w.host, mfn);
}
