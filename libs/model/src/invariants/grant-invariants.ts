// State invariants of grant tables: handles, pins and the marks that a guest sees belong together, and a pinned frame is held.
import type { Domain } from '../domain/domain.ts';
import { activeUse, isWritten, pin, pinCount, pinsOf } from '../grant/active-entry.ts';
import { grantWord } from '../grant/grant-state.ts';
import { pinsFor } from '../grant/map.ts';
import { freeHandles, handleDomid, handleFlags, handleRef, liveHandles, PARTS } from '../grant/maptrack.ts';
import { gtf, statusOf } from '../grant/shared-entry.ts';
import { gntmap } from '../grant/status.ts';
import type { Host } from '../host.ts';
import type { Finding } from './findings.ts';
import type { Survey } from './survey.ts';

const kinds = Object.values(pin);

/** Entries of a domain that are in use. A dead one's too: others may still have them mapped. */
function* pinned(h: Host, d: Domain): Generator<{ ref: number; pins: readonly number[] }> {
  const t = h.grants.of(d);
  for (let ref = 0; ref < t.entries; ref++) {
    if (pinCount(t, ref) > 0) yield { ref, pins: kinds.map((kind) => pinsOf(t, ref, kind)) };
  }
}

/** References that mapped grants of `d` hold: each pin one. */
export function* heldByGrants(h: Host, d: Domain): Generator<{ mfn: number; references: number }> {
  for (const { ref } of pinned(h, d)) {
    const t = h.grants.of(d);
    yield { mfn: activeUse(t, ref).mfn, references: pinCount(t, ref) };
  }
}

/** Handles by what they map: `domid/ref` to pins by kind. */
function pinsByHandles(s: Survey): Map<string, number[]> {
  const found = new Map<string, number[]>();
  for (const { d } of s.domains) {
    const t = s.h.grants.of(d);
    for (const handle of liveHandles(t)) {
      const key = `${handleDomid(t, handle)}/${handleRef(t, handle)}`;
      const pins = found.get(key) ?? kinds.map(() => 0);
      for (const kind of pinsFor(handleFlags(t, handle))) pins[kind] = (pins[kind] as number) + 1;
      found.set(key, pins);
    }
  }
  return found;
}

export function grantPinsMatchHandles(s: Survey): Finding[] {
  const found: Finding[] = [];
  const byHandles = pinsByHandles(s);
  for (const { d } of s.domains) {
    for (const { ref, pins } of pinned(s.h, d)) {
      const key = `${d.domid}/${ref}`;
      const mapped = byHandles.get(key) ?? kinds.map(() => 0);
      byHandles.delete(key);
      if (pins.join() === mapped.join()) continue;
      found.push({
        text: `grant ${ref} of d${d.domid} has pins ${pins.join('/')}, handles account for ${mapped.join('/')}`,
        evidence: { domid: d.domid, ref },
      });
    }
  }
  for (const [key, pins] of byHandles) {
    found.push({ text: `grant ${key} has no pins, handles account for ${pins.join('/')}`, evidence: { grant: key } });
  }
  return found;
}

/** The granting guest sees exactly what is true: it may take an entry back when it is unmarked. */
export function grantMarksMatchPins(s: Survey): Finding[] {
  const found: Finding[] = [];
  for (const { d } of s.domains) {
    const t = s.h.grants.of(d);
    for (let ref = 0; ref < t.entries && !d.dying; ref++) {
      const due = (pinCount(t, ref) > 0 ? gtf.reading : 0) | (isWritten(t, ref) ? gtf.writing : 0);
      // Marks without a pin are the guest's own writing, and nobody's harm but its own.
      if ((due & ~statusOf(t, ref)) === 0) continue;
      found.push({
        text: `grant ${ref} of d${d.domid} is in use (${due}), its marks say ${statusOf(t, ref)}`,
        evidence: { domid: d.domid, ref, due, marks: statusOf(t, ref) },
      });
    }
  }
  return found;
}

export function pinnedImpliesReferenced(s: Survey): Finding[] {
  const found: Finding[] = [];
  for (const { d } of s.domains) {
    const t = s.h.grants.of(d);
    for (const { ref } of pinned(s.h, d)) {
      const { mfn } = activeUse(t, ref);
      if ((s.h.frames.count[mfn] as number) >= pinCount(t, ref)) continue;
      found.push({
        text: `grant ${ref} of d${d.domid} is pinned ${pinCount(t, ref)} times, mfn ${mfn.toString(16)} has ${s.h.frames.count[mfn]} references`,
        evidence: { domid: d.domid, ref, mfn },
      });
    }
  }
  return found;
}

/** Each handle was given back once, or is in use. */
export function handleFreedOnce(s: Survey): Finding[] {
  const found: Finding[] = [];
  for (const { d } of s.domains) {
    const t = s.h.grants.of(d);
    const free = new Set<number>();
    for (const handle of freeHandles(t)) {
      const live = (handleFlags(t, handle) & PARTS) !== 0;
      if (free.has(handle) || live) {
        const text = `handle ${handle} of d${d.domid} is free ${live ? 'and maps something' : 'twice'}`;
        found.push({ text, evidence: { domid: d.domid, handle } });
      }
      free.add(handle);
    }
    const known = free.size + [...liveHandles(t)].length;
    const taken = (t.head[grantWord.nextHandle] as number) - 1;
    if (found.length > 0 || known === taken || taken < 0) continue;
    const text = `d${d.domid} has taken ${taken} handles, ${known} are free or map something`;
    found.push({ text, evidence: { domid: d.domid, taken, known } });
  }
  return found;
}

/** Of an HVM domain each host part of a handle is one leaf. */
export function grantLeavesMatchHandles(s: Survey): Finding[] {
  const found: Finding[] = [];
  for (const { d, grantLeaves } of s.domains) {
    if (!d.isTranslated) continue;
    const t = s.h.grants.of(d);
    let parts = 0;
    for (const handle of liveHandles(t)) if ((handleFlags(t, handle) & gntmap.host) !== 0) parts++;
    // A dying domain's leaves go before its handles.
    if (d.r.nrGrantLeaves === grantLeaves && (parts === grantLeaves || d.dying)) continue;
    found.push({
      text: `d${d.domid} has ${grantLeaves} grant leaves (counted ${d.r.nrGrantLeaves}), and ${parts} handles with a host part`,
      evidence: { domid: d.domid, leaves: grantLeaves, counted: d.r.nrGrantLeaves, parts },
    });
  }
  return found;
}
