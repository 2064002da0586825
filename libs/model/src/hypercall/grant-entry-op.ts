// What a guest does to its own grant table: plain memory accesses to the table's frames, wherever it has them in its p2m, with the
// one compare-and-exchange that withdrawing an entry takes. No hypercall, and no check of what is written: Xen reads it as it is.
import { enterGuest, leaveGuest } from '../domain/pause.ts';
import type { Mfn } from '../frames/addresses.ts';
import { ENTRIES_V1, ENTRIES_V2, type GrantTable } from '../grant/grant-state.ts';
import { entryWord, flagsOf, gtf, headerOf } from '../grant/shared-entry.ts';
import { tableFrameOf } from '../grant/table.ts';
import type { Host } from '../host.ts';
import { AccessOutcome, accessResult, guestAccess } from '../p2m/guest-access.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import type { CallOf } from './calls.ts';
import { isCount, isFrame } from './checks.ts';
import { blocked, type Caller, done, type Outcome, rc } from './continuation.ts';
import { errno } from './errno.ts';

const IN_USE = gtf.reading | gtf.writing;

/** The number of an entry's frame that the caller has at `gfn`; -EFAULT: it cannot write there, or it is no grant frame. */
function tableFrameAt(h: Host, caller: Caller, gfn: number): number {
  const d = caller.domain;
  if (!isFrame(gfn)) return -errno.EFAULT;
  let m = gfn as Mfn;
  if (d.isTranslated) {
    // The store's tag is nothing to anybody: what matters of this page is in the arena.
    const out = new AccessOutcome();
    if (guestAccess(h, d, gfn, 1, out) !== accessResult.ok) return -errno.EFAULT;
    m = out.mfn;
  }
  const frame = tableFrameOf(h.grants.of(d), m);
  return frame < 0 ? -errno.EFAULT : frame;
}

/** Runs `body` on the entry that the caller means, in guest mode. */
function onEntry(
  h: Host,
  caller: Caller,
  { gfn, index, version }: { gfn: number; index: number; version: number },
  body: (t: GrantTable, ref: number) => Outcome,
): Outcome {
  const perFrame = version === 2 ? ENTRIES_V2 : ENTRIES_V1;
  if ((version !== 1 && version !== 2) || !isCount(index) || index >= perFrame) return rc(-errno.EINVAL);
  const d = caller.domain;
  if (!enterGuest(d)) return blocked({ on: 'unpause', domid: d.domid }, null);
  try {
    const frame = tableFrameAt(h, caller, gfn);
    return frame < 0 ? rc(frame) : body(h.grants.of(d), frame * perFrame + index);
  } finally {
    leaveGuest(d);
  }
}

const isU16 = (n: unknown): n is number => isCount(n) && n <= 0xffff;

/** Everything of the entry first, its flags last (as Linux' gnttab_update_entry). */
export function grantEntrySet(h: Host, caller: Caller, call: CallOf<'grant_entry_set'>): Outcome {
  const { flags, domid, frame, start, length, transDomid, transRef } = call;
  const plain = isU16(flags) && isU16(domid) && isFrame(frame) && isU16(start) && isU16(length);
  if (!plain || !isU16(transDomid) || !isCount(transRef) || transRef > 0xffff_ffff) return rc(-errno.EINVAL);
  return onEntry(h, caller, call, (t, ref) => {
    const at = entryWord(call.version, ref);
    const low = frame % 2 ** 32;
    step(stepKind.write, ref);
    if (call.version === 1) t.shared[at + 1] = low;
    else if ((flags & gtf.typeMask) === gtf.transitive) {
      t.shared[at + 1] = transDomid;
      t.shared[at + 2] = transRef;
    } else {
      t.shared[at + 1] = start | (length << 16);
      t.shared[at + 2] = low;
      t.shared[at + 3] = Math.floor(frame / 2 ** 32);
    }
    Atomics.store(t.shared, at, headerOf(flags, domid));
    return rc(0);
  });
}

/**
 * Withdraws an entry: rc 0, or -EBUSY while Xen has it marked as in use. Version 1 changes the flags only if they are unmarked;
 * version 2 empties them first and then looks at the status word, so that no new use can begin.
 */
export function grantEntryEnd(h: Host, caller: Caller, call: CallOf<'grant_entry_end'>): Outcome {
  return onEntry(h, caller, call, (t, ref) => {
    const at = entryWord(call.version, ref);
    step(stepKind.write, ref);
    if (call.version === 2) {
      Atomics.store(t.shared, at, 0);
      step(stepKind.read, ref);
      return rc((Atomics.load(t.status, ref) & IN_USE) === 0 ? 0 : -errno.EBUSY);
    }
    for (;;) {
      const header = Atomics.load(t.shared, at);
      if ((flagsOf(header) & IN_USE) !== 0) return rc(-errno.EBUSY);
      if (Atomics.compareExchange(t.shared, at, header, 0) === header) return rc(0);
    }
  });
}

/** The entry's flags, and for version 2 its status word. */
export function grantEntryQuery(h: Host, caller: Caller, call: CallOf<'grant_entry_query'>): Outcome {
  return onEntry(h, caller, call, (t, ref) => {
    const flags = flagsOf(Atomics.load(t.shared, entryWord(call.version, ref)));
    const status = call.version === 2 ? Atomics.load(t.status, ref) : flags;
    return done({ rc: 0, flags, inUse: (status & IN_USE) !== 0 });
  });
}
