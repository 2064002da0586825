// State invariants of lent memory: it is where its windows are, it is its lender's, no device and no stale translation reaches it.
import type { Mfn } from '../frames/addresses.ts';
import { isLentSlot, leafIndex } from '../lending/lent-leaf.ts';
import { isCounted } from '../lending/open-window.ts';
import { windowState, windowsOf } from '../lending/window.ts';
import { slotFrame, slotLow, slotType } from '../p2m/entry.ts';
import { flushPending } from '../p2m/p2m.ts';
import { p2mType } from '../p2m/types.ts';
import type { Finding } from './findings.ts';
import { firstOverlap, type Runs } from './runs.ts';
import type { Survey } from './survey.ts';

const hex = (n: number): string => n.toString(16);

const pagesOf = (runs: Runs): number => [...runs].reduce((sum, { pages }) => sum + pages, 0);

/** Every page of an open window has an entry to lend into, and there is none elsewhere. */
export function lentLeavesMatchWindows(s: Survey): Finding[] {
  const found: Finding[] = [];
  for (const { d, lentPlaces, lentRuns } of s.domains) {
    const windows = windowsOf(d);
    for (const { from, pages } of lentPlaces) {
      if (windows.some((w) => w.first <= from && from + pages - 1 <= w.last)) continue;
      if (windows.some((w) => w.first <= from + pages - 1 && from <= w.last)) continue; // neighbouring windows, joined
      found.push({
        text: `d${d.domid} gfn ${hex(from)} is a place for lent memory in no window`,
        evidence: { gfn: from },
      });
    }
    const places = pagesOf(lentPlaces);
    const sizes = windows.reduce((sum, w) => sum + w.count, 0);
    const partly = windows.some((w) => w.state !== windowState.open);
    if (places > sizes || (places < sizes && !partly)) {
      found.push({
        text: `d${d.domid} has places for ${places} lent pages in windows of ${sizes}`,
        evidence: { domid: d.domid, places, sizes },
      });
    }
    const lent = pagesOf(lentRuns);
    if (lent === d.r.nrLent) continue;
    found.push({
      text: `d${d.domid} has ${lent} lent pages, ${d.r.nrLent} are counted`,
      evidence: { domid: d.domid, lent, counted: d.r.nrLent },
    });
  }
  return found;
}

/** What is lent is the lender's own memory, and stays allocated while it is lent. */
export function lentFrameBelongsToLender(s: Survey): Finding[] {
  const found: Finding[] = [];
  for (const { d, lentRuns } of s.domains) {
    for (const { from, to, pages } of lentRuns) {
      for (let i = 0; i < pages; i++) {
        const m = (to + i) as Mfn;
        if (!s.isHostRam(m)) continue;
        const lender = windowsOf(d).find((w) => w.first <= from + i && from + i <= w.last)?.lender ?? -1;
        if (isCounted(s.h, m) && s.h.frames.ownerOf(m) === lender) continue;
        found.push({
          text: `d${d.domid} gfn ${hex(from + i)} borrows mfn ${hex(m)} from d${lender}, which d${s.h.frames.ownerOf(m)} owns`,
          evidence: { domid: d.domid, gfn: from + i, mfn: m, lender },
        });
        break;
      }
    }
  }
  return found;
}

/** A device's fault cannot be replayed, so devices never see what may vanish. With shared tables they see what the CPUs see. */
export function noLentFrameInIommu(s: Survey): Finding[] {
  const found: Finding[] = [];
  for (const { d, lentRuns, ioRuns } of s.domains) {
    const shared = d.has('hapPtShare') ? [...lentRuns][0]?.from : undefined;
    const overlap = shared === undefined ? firstOverlap(lentRuns, ioRuns) : null;
    const gfn = shared ?? (overlap ? Math.max(overlap.a.from, overlap.b.from) : -1);
    if (gfn < 0) continue;
    found.push({
      text: `d${d.domid} gfn ${hex(gfn)} is lent, and its devices reach it${shared === undefined ? '' : ": they walk the CPU's tables"}`,
      evidence: { domid: d.domid, gfn },
    });
  }
  return found;
}

/** No CPU has cached a translation to a lent page that was revoked, unless a flush is due before it may be used. */
export function noTlbEntryAfterRevoke(s: Survey): Finding[] {
  const { h } = s;
  const found: Finding[] = [];
  for (let cpu = 0; cpu < h.config.pcpus; cpu++) {
    for (const { slot, gfn, leaf } of h.tlbs.entries(cpu)) {
      const d = h.slot(slot);
      if (!d.exists || slotType(slotLow(leaf)) !== p2mType.lent || flushPending(d, cpu)) continue;
      const stands = [0, 1].some((level) => {
        const index = leafIndex(h, d, gfn, level);
        const now = index < 0 ? 0 : (h.tables.slots[index] as number);
        return isLentSlot(now) && slotFrame(now) + (gfn % 512 ** level) === slotFrame(leaf);
      });
      if (stands) continue;
      found.push({
        text: `cpu${cpu} still translates d${d.domid} gfn ${hex(gfn)} to mfn ${hex(slotFrame(leaf))}, which was revoked`,
        evidence: { cpu, domid: d.domid, gfn, mfn: slotFrame(leaf) },
      });
    }
  }
  return found;
}
