// Judges a borrower's access to lent memory at the moment it happens: the translation that it uses must still stand, or a flush of
// this CPU must be on its way. Reported as `noAccessAfterRevoke`.
import type { Domain } from '../domain/domain.ts';
import { domainRecord } from '../domain/domain-record.ts';
import type { Host } from '../host.ts';
import { slotFrame } from '../p2m/entry.ts';
import { flushPending } from '../p2m/p2m.ts';
import { load } from '../shared-memory/slots.ts';
import { isLentSlot, leafIndex } from './lent-leaf.ts';

/** True if the tables show `m` at `g` as lent, at either page size. */
export function isStillLent(h: Host, d: Domain, g: number, m: number): boolean {
  for (const level of [0, 1]) {
    const index = leafIndex(h, d, g, level);
    if (index < 0) continue;
    const slot = load(h.tables.slots, index);
    if (isLentSlot(slot) && slotFrame(slot) + (g % 512 ** level) === m) return true;
  }
  return false;
}

/**
 * In guest mode, translation in hand. A revocation changes the leaf, then asks for the flush, then lets the lock go, then waits for
 * this CPU: while the lock is held, or the request stands, it has not returned. Looked at in the opposite order.
 */
export function checkLentAccess(h: Host, d: Domain, g: number, m: number): void {
  if (isStillLent(h, d, g, m)) return;
  if (Atomics.load(d.r.words, domainRecord.at.deferFlush) > 0 || flushPending(d, h.cpu)) return;
  h.platform.violation({
    invariant: 'noAccessAfterRevoke',
    text: `d${d.domid} on cpu${h.cpu} reaches mfn ${m.toString(16)} at gfn ${g.toString(16)}, which was revoked`,
    evidence: { domid: d.domid, cpu: h.cpu, gfn: g, mfn: m },
  });
}
