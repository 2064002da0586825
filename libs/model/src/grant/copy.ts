// GNTTABOP_copy: one operation. Each side is a gfn of the caller or a grant; references and pins are held only while it runs.
// Deviation: a frame's contents are one tag, so a copy of any part of a page carries the whole tag over.
import type { Domain } from '../domain/domain.ts';
import { putPage } from '../domain/memory.ts';
import { DOMID_SELF, type Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { lentOperand } from '../lending/lent-operand.ts';
import { markDirty } from '../p2m/dirty-bitmap.ts';
import { counter } from '../shared-memory/counters.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import {
  type ActiveUse,
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
import { type GrantTable, grantWord } from './grant-state.ts';
import { grantedBy, isTransitive, passedOnBy, setStatus } from './shared-entry.ts';
import { letGo } from './stale-lookup.ts';
import { gntcopy, gntst } from './status.ts';

const C_COPY = counter('grant.copy');
const PAGE = 4096;

export interface CopySide {
  readonly domid: number;
  /** A grant reference, or a gfn. */
  readonly frame: number;
  readonly offset: number;
}

export interface CopyOp {
  readonly source: CopySide;
  readonly dest: CopySide;
  readonly length: number;
  readonly flags: number;
}

/** A transitive entry while no lock is held: the grant behind it, and the page of the entry's own status word. */
interface Behind {
  readonly domid: number;
  readonly ref: number;
  readonly page: Mfn | -1;
}

/** One side, held: where its bytes are. */
interface Held {
  readonly mfn: Mfn;
  readonly start: number;
  readonly length: number;
  /** Whose frame it is. */
  readonly owner: Domain;
  readonly release: () => void;
  /** Of lent memory, where hypercalls see it: whether it still is. */
  readonly judge?: () => void;
}

export function grantCopy(h: Host, d: Domain, op: CopyOp): number {
  if (op.length === 0) return gntst.okay;
  const from = sideDomain(h, d, op.source, (op.flags & gntcopy.sourceGref) !== 0);
  if (typeof from === 'number') return from;
  const to = sideDomain(h, d, op.dest, (op.flags & gntcopy.destGref) !== 0);
  if (typeof to === 'number') return to;
  const source = hold(h, d, from, op.source, (op.flags & gntcopy.sourceGref) !== 0, true);
  if (typeof source === 'number') return source;
  const dest = hold(h, d, to, op.dest, (op.flags & gntcopy.destGref) !== 0, false);
  if (typeof dest === 'number') {
    source.release();
    return dest;
  }
  const status = checkBounds(op, source, dest);
  if (status === gntst.okay) {
    carryOver(h, source, dest);
    h.counters.add(C_COPY);
  }
  dest.release();
  source.release();
  return status;
}

/** Without a grant only one's own memory. */
function sideDomain(h: Host, d: Domain, { domid }: CopySide, byGrant: boolean): Domain | number {
  if (domid === DOMID_SELF) return d;
  if (!byGrant) return gntst.permissionDenied;
  return h.domain(domid) ?? gntst.badDomain;
}

function hold(h: Host, d: Domain, of: Domain, side: CopySide, byGrant: boolean, readonly: boolean): Held | number {
  if (byGrant) return acquireGrant(h, of, side.frame, d, readonly, true);
  const m = pagedFrame(h, of, side.frame);
  if (m < 0) {
    const lent = lentOperand(h, of, side.frame);
    return lent ? { ...lent, start: 0, length: PAGE, owner: of } : gntst.badPage;
  }
  if (h.config.policies.p2mLookup === 'stale') return { ...letGo(h, of, side.frame, m as Mfn), start: 0, length: PAGE };
  return { mfn: m as Mfn, start: 0, length: PAGE, owner: of, release: () => putPage(h, m as Mfn) };
}

function checkBounds(op: CopyOp, source: Held, dest: Held): number {
  if (op.source.offset + op.length > PAGE || op.dest.offset + op.length > PAGE) return gntst.badCopyArg;
  const inside = (side: CopySide, held: Held): boolean =>
    side.offset >= held.start && side.offset + op.length <= held.start + held.length;
  return inside(op.source, source) && inside(op.dest, dest) ? gntst.okay : gntst.generalError;
}

function carryOver(h: Host, source: Held, { mfn, owner, judge }: Held): void {
  step(stepKind.read, source.mfn);
  source.judge?.();
  const tag = Atomics.load(h.frames.tag, source.mfn);
  step(stepKind.write, mfn);
  judge?.();
  Atomics.store(h.frames.tag, mfn, tag);
  const g = h.frames.gfnOf(mfn);
  if (owner.isTranslated && owner.r.logDirty !== 0 && g >= 0) markDirty(h, owner, g, 1);
}

/**
 * acquire_grant_for_copy: the grant `ref` of `rd` pinned for `d`, with a reference of its frame. A transitive entry is followed once,
 * with no lock held; meanwhile the table keeps its version (XSA-501).
 */
export function acquireGrant(
  h: Host,
  rd: Domain,
  ref: number,
  d: Domain,
  readonly: boolean,
  mayPassOn: boolean,
): Held | number {
  const t = h.grants.of(rd);
  const { grantTable, grantActive } = rd.locks;
  grantTable.readLock();
  grantActive.lock();
  let passedOn: Behind | null = null;
  try {
    if (ref >= t.entries) return gntst.badGntref;
    const page = t.statusPageOf(ref);
    const again = pinCount(t, ref) > 0;
    if (!again || (!readonly && !isWritten(t, ref))) {
      if (again && (activeUse(t, ref).domid !== d.domid || pinsFull(t, ref))) return gntst.generalError;
      const status = setStatus(t, ref, d.domid, readonly, true);
      if (status !== gntst.okay) return status;
    }
    if (again) return pinAgain(h, rd, t, ref, d, readonly);
    if (!isTransitive(t, ref)) return pinFirst(h, rd, t, ref, d, readonly);
    if (!mayPassOn) {
      settleStatus(t, ref);
      return gntst.generalError;
    }
    passedOn = { ...passedOnBy(t, ref), page };
    Atomics.add(t.head, grantWord.v2InFlight, 1);
  } finally {
    grantActive.unlock();
    grantTable.readUnlock();
  }
  return follow(h, rd, ref, d, readonly, passedOn);
}

function pinFirst(h: Host, rd: Domain, t: GrantTable, ref: number, d: Domain, readonly: boolean): Held | number {
  const granted = grantedBy(t, ref);
  if (granted.start + granted.length > PAGE) {
    settleStatus(t, ref);
    return gntst.generalError;
  }
  const m = pagedFrame(h, rd, granted.frame);
  if (m < 0) {
    settleStatus(t, ref);
    return gntst.badPage;
  }
  beginUse(t, ref, { domid: d.domid, mfn: m as Mfn, start: granted.start, length: granted.length, from: null });
  return pinned(h, rd, rd, t, ref, readonly);
}

function pinAgain(h: Host, rd: Domain, t: GrantTable, ref: number, d: Domain, readonly: boolean): Held | number {
  const use = activeUse(t, ref);
  if (use.domid !== d.domid || pinsFull(t, ref)) return gntst.generalError;
  const owner = use.from ? h.domain(use.from.domid) : rd;
  if (!owner || !referAgain(h, rd, ref, use.mfn, owner)) {
    settleStatus(t, ref);
    return gntst.generalError;
  }
  return pinned(h, rd, owner, t, ref, readonly);
}

/** grantActive lock held; the reference is taken already. */
function pinned(h: Host, rd: Domain, owner: Domain, t: GrantTable, ref: number, readonly: boolean): Held {
  const kind = readonly ? pin.hostRead : pin.hostWrite;
  const { mfn, start, length } = activeUse(t, ref);
  addPin(t, ref, kind);
  return { mfn, start, length, owner, release: () => releaseGrant(h, rd, ref, kind, mfn) };
}

/** Ends what acquireGrant began: the pin goes first, so that a pinned entry's frame is referenced (XSA-236). */
export function releaseGrant(h: Host, rd: Domain, ref: number, kind: Pin, m: Mfn): void {
  dropCopyPin(rd, h.grants.of(rd), ref, kind);
  putPage(h, m);
}

/** A transitive entry: the grant behind it, as if the middle domain had copied; then both are pinned. */
function follow(h: Host, rd: Domain, ref: number, d: Domain, readonly: boolean, behind: Behind): Held | number {
  const source = h.domain(behind.domid);
  const held = source && source !== rd ? acquireGrant(h, source, behind.ref, rd, readonly, false) : gntst.generalError;
  const { grantTable, grantActive } = rd.locks;
  grantTable.readLock();
  grantActive.lock();
  checkStatusPage(h, rd, ref, behind.page);
  const both = typeof held === 'number' ? null : pinOver(h.grants.of(rd), rd, ref, d, readonly, behind, held);
  if (!both) settleStatus(h.grants.of(rd), ref);
  Atomics.sub(h.grants.of(rd).head, grantWord.v2InFlight, 1);
  grantActive.unlock();
  grantTable.readUnlock();
  if (both) return both;
  if (typeof held === 'number') return held;
  held.release();
  return gntst.generalError;
}

/** The status word that was marked is about to be used again: its page must be the table's still, whatever came meanwhile (XSA-501). */
function checkStatusPage(h: Host, rd: Domain, ref: number, page: number): void {
  const now = h.grants.of(rd).statusPageOf(ref);
  // Xen frees a dead domain's table when no operation can be in the middle of it any more; here its frames go before.
  if (now === page || rd.dying) return;
  h.platform.violation({
    invariant: 'pointerIntoPageDiesWithTheLock',
    text: `a copy through grant ${ref} of d${rd.domid} goes on with the status word that it marked in mfn ${page.toString(16)}, which the table has given up`,
    evidence: { domid: rd.domid, ref, mfn: page, now },
  });
}

/** Pins the entry over what is held of the grant behind it; null: it changed while no lock was held. */
function pinOver(
  t: GrantTable,
  rd: Domain,
  ref: number,
  d: Domain,
  readonly: boolean,
  behind: { domid: number; ref: number },
  held: Held,
): Held | null {
  // Its marks may have been taken back with another's attempt, and its owner may have withdrawn it.
  if (setStatus(t, ref, d.domid, readonly, true) !== gntst.okay) return null;
  const use: ActiveUse = { domid: d.domid, mfn: held.mfn, start: held.start, length: held.length, from: behind };
  const now = pinCount(t, ref) > 0 ? activeUse(t, ref) : null;
  if (now && (now.domid !== use.domid || now.mfn !== use.mfn || now.start !== use.start || pinsFull(t, ref)))
    return null;
  if (!now) beginUse(t, ref, use);
  const kind = readonly ? pin.hostRead : pin.hostWrite;
  addPin(t, ref, kind);
  const release = (): void => {
    dropCopyPin(rd, t, ref, kind);
    held.release();
  };
  return { ...held, release };
}

function dropCopyPin(rd: Domain, t: GrantTable, ref: number, kind: Pin): void {
  const { grantTable, grantActive } = rd.locks;
  grantTable.readLock();
  grantActive.lock();
  dropPin(t, ref, kind);
  settleStatus(t, ref);
  grantActive.unlock();
  grantTable.readUnlock();
}
