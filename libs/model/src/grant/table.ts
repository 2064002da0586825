// A domain's grant table as a whole: its frames, which are Xen's and are shown to the guest, its growth, its version. Lock order:
// grantTable, then p2m: a frame is put into the p2m with the table held, so that a change of version cannot free it in between
// (XSA-384 was not enough, XSA-486).

import { domainCrash } from '../domain/crash.ts';
import type { Domain } from '../domain/domain.ts';
import { allocAnonymous, putAllocRef, putPage } from '../domain/memory.ts';
import type { Mfn } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { p2mRemovePage } from '../p2m/physmap.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { pinCount } from './active-entry.ts';
import { type GrantTable, grantWord, type Words } from './grant-state.ts';
import { convertTable, entryWord, flagsOf, gtf, RESERVED_ENTRIES } from './shared-entry.ts';

/** Of a frame number in add_to_physmap: a status frame is meant (XENMAPIDX_grant_table_status). */
const STATUS_INDEX = 2 ** 31;

/** A page of Xen's that the domain may be shown; false: no memory. */
function addFrame(h: Host, d: Domain, list: Words, index: number): boolean {
  const m = allocAnonymous(h);
  if (m < 0) return false;
  h.frames.fillBlock(m as Mfn, 1, d.domid, 1, frameFlag.allocated | frameFlag.special);
  list[index] = m + 1;
  return true;
}

/** It goes when nobody has it mapped any more (a toolstack by acquire_resource). */
function dropFrame(h: Host, list: Words, index: number): void {
  const m = (list[index] as number) - 1;
  if (m < 0) return;
  list[index] = 0;
  putAllocRef(h, m as Mfn);
}

/** gnttab_grow_table: to `frames`, at least one. 0 or -ENOMEM: over the limit, or no memory. grantTable lock held for writing. */
export function growTable(h: Host, d: Domain, frames: number): number {
  const t = h.grants.of(d);
  const wanted = Math.max(frames, 1);
  if (wanted > t.maxFrames || d.dying) return -errno.ENOMEM;
  if (t.version === 2 && !growStatus(h, d, t, wanted)) return -errno.ENOMEM;
  for (let i = t.frames; i < wanted; i++) {
    if (!addFrame(h, d, t.frameList, i)) return -errno.ENOMEM;
    t.head[grantWord.frames] = i + 1;
  }
  return 0;
}

function growStatus(h: Host, d: Domain, t: GrantTable, frames: number): boolean {
  for (let i = t.statusFrames; i < t.statusFramesFor(frames); i++) {
    if (!addFrame(h, d, t.statusList, i)) return false;
    t.head[grantWord.statusFrames] = i + 1;
  }
  return true;
}

/** Removes the status frames, wherever the guest has them. 0, or the error of an entry that would not go; then they stay. */
function freeStatus(h: Host, d: Domain, t: GrantTable): number {
  for (let i = 0; i < t.statusFrames; i++) {
    const m = ((t.statusList[i] as number) - 1) as Mfn;
    step(stepKind.read, m);
    const g = h.frames.gfnOf(m);
    const rc = g < 0 ? 0 : p2mRemovePage(h, d, g, m, 0);
    if (rc !== 0) return rc;
  }
  for (let i = 0; i < t.statusFrames; i++) {
    const m = ((t.statusList[i] as number) - 1) as Mfn;
    step(stepKind.read, m);
    if (Atomics.load(h.frames.count, m) > 1) {
      domainCrash(h, d, `d${d.domid}: grant status frame ${i} is still referenced`);
      return -errno.EBUSY;
    }
  }
  for (let i = t.statusFrames - 1; i >= 0; i--) dropFrame(h, t.statusList, i);
  t.head[grantWord.statusFrames] = 0;
  return 0;
}

/**
 * GNTTABOP_set_version. 0; -EINVAL: no such version; -EBUSY: an entry beyond the reserved ones is in use; -EAGAIN: an operation holds
 * on to a status word (XSA-501); -ERANGE: a reserved entry is not a plain one; -ENOMEM.
 */
export function setVersion(h: Host, d: Domain, version: number): number {
  if (version !== 1 && version !== 2) return -errno.EINVAL;
  const t = h.grants.of(d);
  d.locks.grantTable.writeLock();
  try {
    if (t.version === version) return 0;
    if (Atomics.load(t.head, grantWord.v2InFlight) !== 0) return -errno.EAGAIN;
    // Whoever pins an entry holds the table for reading, so no pin comes or goes now.
    for (let ref = RESERVED_ENTRIES; ref < t.entries; ref++) {
      if (pinCount(t, ref) === 0) continue;
      h.platform.printk(
        `tried to change grant table version from ${t.version} to ${version}, but some grant entries still in use`,
      );
      return -errno.EBUSY;
    }
    for (let ref = 0; ref < Math.min(RESERVED_ENTRIES, t.entries); ref++) {
      const flags = flagsOf(t.shared[entryWord(t.version, ref)] as number);
      if ((flags & gtf.typeMask) > gtf.permitAccess || (flags & gtf.subPage) !== 0) return -errno.ERANGE;
      if (pinCount(t, ref) > 0) return -errno.EBUSY;
    }
    if (version === 2 && !growStatus(h, d, t, t.frames)) return -errno.ENOMEM;
    const rc = version === 1 ? freeStatus(h, d, t) : 0;
    if (rc !== 0) return rc;
    convertTable(t, version);
    t.head[grantWord.version] = version;
    return 0;
  } finally {
    d.locks.grantTable.writeUnlock();
  }
}

/**
 * XENMAPSPACE_grant_table: frame `idx` of the table, or of its status frames, is given to `place` to be mapped, with the table held
 * meanwhile. The table grows on demand. -EINVAL: there is no such frame and there cannot be.
 */
export function mapTableFrame(h: Host, d: Domain, idx: number, place: (m: Mfn) => number): number {
  const ofStatus = idx >= STATUS_INDEX;
  d.locks.grantTable.writeLock();
  let m: Mfn | number;
  let rc = -errno.EINVAL;
  try {
    m = frameHeld(h, d, ofStatus ? idx - STATUS_INDEX : idx, ofStatus);
    if (m >= 0) rc = place(m as Mfn);
  } finally {
    d.locks.grantTable.writeUnlock();
  }
  if (m >= 0) putPage(h, m as Mfn);
  return rc;
}

/** Frame `index` of the table or of its status frames with a reference, or -EINVAL; the table grows on demand. */
export function getTableFrame(h: Host, d: Domain, index: number, ofStatus: boolean): Mfn | number {
  d.locks.grantTable.writeLock();
  try {
    return frameHeld(h, d, index, ofStatus);
  } finally {
    d.locks.grantTable.writeUnlock();
  }
}

function frameHeld(h: Host, d: Domain, index: number, ofStatus: boolean): Mfn | number {
  const t = h.grants.of(d);
  const most = ofStatus ? t.statusFramesFor(t.maxFrames) : t.maxFrames;
  if (index >= most || (ofStatus && t.version !== 2)) return -errno.EINVAL;
  const needed = ofStatus ? Math.min(t.maxFrames, (index + 1) * (t.maxFrames / most)) : index + 1;
  const missing = index >= (ofStatus ? t.statusFrames : t.frames);
  if (missing && growTable(h, d, needed) !== 0) return -errno.EINVAL;
  const m = (((ofStatus ? t.statusList[index] : t.frameList[index]) as number) - 1) as Mfn;
  return m >= 0 && h.frames.getPage(m, d.domid) ? m : -errno.EINVAL;
}

/** Whether `m` shows a part of the domain's table, and which: the number of the frame; -1: it does not. */
export function tableFrameOf(t: GrantTable, m: number): number {
  for (let i = 0; i < t.frames; i++) if (t.frameList[i] === m + 1) return i;
  return -1;
}

/** Destroy, stage g: the table's frames go back. Its entries stay as long as somebody has pinned one (a zombie's). */
export function freeTableFrames(h: Host, d: Domain): void {
  const t = h.grants.of(d);
  d.locks.grantTable.writeLock();
  for (let i = t.statusFrames - 1; i >= 0; i--) dropFrame(h, t.statusList, i);
  for (let i = t.frames - 1; i >= 0; i--) dropFrame(h, t.frameList, i);
  d.locks.grantTable.writeUnlock();
}
