// Policy `lend.hypercalls: visible`, a mistake to look at: a hypercall of the borrower's takes a reference of a lent frame and works on
// it, like on any page of its own. A revocation does not wait for that, and must not: what the hypercall then writes is written
// into a page that has gone back to its lender.
import type { Domain } from '../domain/domain.ts';
import { domainRecord } from '../domain/domain-record.ts';
import { putPage } from '../domain/memory.ts';
import type { Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { slotFrame } from '../p2m/entry.ts';
import { p2mReadLock, p2mReadUnlock } from '../p2m/p2m.ts';
import { load } from '../shared-memory/slots.ts';
import { isLentSlot, leafIndex } from './lent-leaf.ts';
import { isStillLent } from './revoked-access.ts';

interface LentOperand {
  readonly mfn: Mfn;
  /** Call when the frame is about to be read or written: a revocation that has finished is a violation. */
  readonly judge: () => void;
  readonly release: () => void;
}

/** The lent frame at `g` of `d` with a reference; null: there is none, or hypercalls do not see it. */
export function lentOperand(h: Host, d: Domain, g: number): LentOperand | null {
  if (h.config.policies.lendHypercalls !== 'visible' || !d.isTranslated) return null;
  p2mReadLock(h, d);
  const index = leafIndex(h, d, g, 0);
  const slot = index < 0 ? 0 : load(h.tables.slots, index);
  const m = slotFrame(slot) as Mfn;
  const held = isLentSlot(slot) && h.frames.valid(m) && h.frames.getPage(m, h.frames.ownerOf(m) as Domain['domid']);
  p2mReadUnlock(h, d);
  return held ? { mfn: m, judge: () => judge(h, d, g, m), release: () => putPage(h, m) } : null;
}

function judge(h: Host, d: Domain, g: number, m: Mfn): void {
  // A revocation that is under way still holds the lock.
  if (isStillLent(h, d, g, m) || Atomics.load(d.r.words, domainRecord.at.deferFlush) > 0) return;
  h.platform.violation({
    invariant: 'noAccessAfterRevoke',
    text: `a hypercall of d${d.domid} goes on with mfn ${m.toString(16)}, which it found at gfn ${g.toString(16)} and which was revoked since`,
    evidence: { domid: d.domid, gfn: g, mfn: m },
  });
}
