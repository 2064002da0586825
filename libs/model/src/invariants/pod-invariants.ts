// State invariants of populate-on-demand (pod fact sheet, "Invariants a simulator should check").
import type { Domain } from '../domain/domain.ts';
import { type Mfn, SUPERPAGE_PAGES } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';
import type { Finding } from './findings.ts';
import type { Survey } from './survey.ts';

const hex = (n: number): string => n.toString(16);

export function podEntryCountMatchesTable(s: Survey): Finding[] {
  return s.domains
    .filter(({ d, podPages }) => d.r.podEntryCount !== podPages && d.r.p2mRoot !== 0 && !d.dying)
    .map(({ d, podPages }) => ({
      text: `d${d.domid}: PoD entry_count is ${d.r.podEntryCount}, the p2m has ${podPages} PoD pages`,
      evidence: { domid: d.domid, entryCount: d.r.podEntryCount, table: podPages },
    }));
}

/** Frames of the cache, chunk by chunk. */
function* cacheFrames(d: Domain): Generator<Mfn> {
  for (const chunk of d.podSuper) for (let i = 0; i < SUPERPAGE_PAGES; i++) yield (chunk + i) as Mfn;
  yield* d.podSingle;
}

/** The lists add up to count, their frames are the domain's, zero, and without a gfn; chunks are aligned. */
export function podCountMatchesLists(s: Survey): Finding[] {
  const found: Finding[] = [];
  for (const { d } of s.domains) {
    const listed = d.podSuper.length * SUPERPAGE_PAGES + d.podSingle.length;
    const flagged = s.cached[d.domid] ?? 0;
    if (listed !== d.r.podCount || flagged !== d.r.podCount) {
      found.push({
        text: `d${d.domid}: the PoD cache counts ${d.r.podCount}, its lists hold ${listed}, ${flagged} frames are marked`,
        evidence: { domid: d.domid, count: d.r.podCount, listed, flagged },
      });
    }
    for (const chunk of d.podSuper) {
      if (chunk % SUPERPAGE_PAGES === 0) continue;
      found.push({
        text: `d${d.domid}: PoD chunk at ${hex(chunk)} is not aligned`,
        evidence: { domid: d.domid, mfn: chunk },
      });
    }
    const bad = firstBad(s.h, d);
    if (bad) found.push(bad);
  }
  return found;
}

function firstBad(h: Host, d: Domain): Finding | null {
  for (const m of cacheFrames(d)) {
    const wrong =
      h.frames.ownerOf(m) !== d.domid
        ? `belongs to d${h.frames.ownerOf(m)}`
        : !h.frames.isZero(m)
          ? `holds ${h.frames.tag[m]}`
          : h.frames.gfnOf(m) >= 0
            ? `has M2P ${hex(h.frames.gfnOf(m))}`
            : '';
    if (wrong)
      return { text: `d${d.domid}: mfn ${hex(m)} of the PoD cache ${wrong}`, evidence: { domid: d.domid, mfn: m } };
  }
  return null;
}

/** XSA-507: shared_info, grant or ioreq pages never end in the cache. */
export function podCacheHoldsOnlyOrdinaryRam(s: Survey): Finding[] {
  const found: Finding[] = [];
  for (const { d } of s.domains) {
    for (const m of cacheFrames(d)) {
      const ordinary =
        s.h.frames.has(m, frameFlag.allocated) && !s.h.frames.has(m, frameFlag.special | frameFlag.table);
      if (ordinary) continue;
      found.push({
        text: `d${d.domid}: mfn ${hex(m)} of the PoD cache is not ordinary RAM`,
        evidence: { domid: d.domid, mfn: m },
      });
      break;
    }
  }
  return found;
}

/** Under the historical policy (`allow`) the combination is what a run is about, so it is not an invariant there. */
export function podNeverWithDevice(s: Survey): Finding[] {
  if (s.h.config.policies.podWithPassthrough === 'allow') return [];
  return s.domains
    .filter(({ d }) => d.r.deviceCount > 0 && (d.r.podEntryCount > 0 || d.r.podCount > 0) && !d.dying)
    .map(({ d }) => ({
      text: `d${d.domid} has ${d.r.deviceCount} devices and ${d.r.podEntryCount} PoD entries, ${d.r.podCount} cached`,
      evidence: { domid: d.domid, devices: d.r.deviceCount, entries: d.r.podEntryCount, cache: d.r.podCount },
    }));
}
