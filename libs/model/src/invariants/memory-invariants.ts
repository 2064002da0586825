// State invariants of frames, p2m and M2P, claims and the paging pool.
import type { Mfn } from '../frames/addresses.ts';
import { MAX_ORDER } from '../frames/heap.ts';
import { slotFrame, slotLow, slotType } from '../p2m/entry.ts';
import { flushPending } from '../p2m/p2m.ts';
import { p2mLogDirtyGlobal } from '../p2m/recalc.ts';
import { isGrant, p2mType } from '../p2m/types.ts';
import { SLOTS_PER_TABLE, type TableIndex, tableUse } from '../shared-memory/table-pages.ts';
import type { Finding } from './findings.ts';
import type { Survey } from './survey.ts';

const hex = (n: number): string => n.toString(16);

/** The way back: a valid M2P entry without a p2m entry shows as one more frame with M2P than mapped pages. */
export function m2pIsInverseOfP2m(s: Survey): Finding[] {
  const found = [...s.findings.of('m2pIsInverseOfP2m')];
  for (const { d, ramPages } of s.domains) {
    const valid = s.withM2p[d.domid] ?? 0;
    if (d.isTranslated && !d.dying && valid !== ramPages) {
      found.push({
        text: `d${d.domid}: ${valid} frames have a valid M2P entry, ${ramPages} pages are mapped as RAM`,
        evidence: { domid: d.domid, valid, ramPages },
      });
    }
  }
  return found;
}

export function totPagesMatchOwnedFrames(s: Survey): Finding[] {
  const found: Finding[] = [];
  for (const { d } of s.domains) {
    const frames = (s.owned[d.domid] ?? 0) - (s.special[d.domid] ?? 0);
    if (frames === d.r.totPages) continue;
    found.push({
      text: `d${d.domid}: tot_pages is ${d.r.totPages}, but it owns ${frames} frames`,
      evidence: { domid: d.domid, totPages: d.r.totPages, frames },
    });
  }
  return found;
}

/** Every frame of the heap is free exactly once, or in use exactly once. */
export function everyFrameHasOneOwner(s: Survey): Finding[] {
  const { heap, frames, config } = s.h;
  const found = [...s.findings.of('everyFrameHasOneOwner')];
  let free = 0;
  for (let order = 0; order <= MAX_ORDER; order++) {
    for (const block of heap.freeBlocks(order)) {
      const end = block + 2 ** order;
      free += 2 ** order;
      // Chunks that nobody uses need no look (and are never committed by one).
      for (let m = frames.nextUsed(block); m < end; m = frames.nextUsed(m + 1)) {
        if (frames.count[m] === 0 && frames.ownerOf(m as Mfn) < 0) continue;
        found.push({
          text: `mfn ${hex(m)} is in a free block of order ${order}, and in use`,
          evidence: { mfn: m, order },
        });
        break;
      }
    }
  }
  let used = s.anonymous;
  for (const pages of s.owned) used += pages;
  if (free !== heap.freePages || free + used + heap.offlinedPages !== heap.totalPages) {
    found.push({
      text: `of ${heap.totalPages} frames ${free} are in free blocks (counted as ${heap.freePages}), ${used} in use and ${heap.offlinedPages} offline`,
      evidence: { total: heap.totalPages, free, freePages: heap.freePages, used, frames: config.frames },
    });
  }
  return found;
}

export function foreignCountMatchesLeaves(s: Survey): Finding[] {
  return s.domains
    .filter(({ d, foreignLeaves }) => d.r.nrForeign !== foreignLeaves)
    .map(({ d, foreignLeaves }) => ({
      text: `d${d.domid}: nr_foreign is ${d.r.nrForeign}, its p2m has ${foreignLeaves} foreign leaves`,
      evidence: { domid: d.domid, nrForeign: d.r.nrForeign, leaves: foreignLeaves },
    }));
}

export function ioreqCountMatchesLeaves(s: Survey): Finding[] {
  return (
    s.domains
      // The p2m of a dying domain goes as a whole, without a count.
      .filter(({ d, ioreqLeaves }) => d.r.ioreqEntryCount !== ioreqLeaves && !d.dying)
      .map(({ d, ioreqLeaves }) => ({
        text: `d${d.domid}: ioreq entry_count is ${d.r.ioreqEntryCount}, its p2m has ${ioreqLeaves} such pages`,
        evidence: { domid: d.domid, entryCount: d.r.ioreqEntryCount, leaves: ioreqLeaves },
      }))
  );
}

/** A device's writes are not logged. */
export function logDirtyNeverWithDevice(s: Survey): Finding[] {
  return s.domains
    .filter(({ d }) => p2mLogDirtyGlobal(d) && d.r.deviceCount > 0 && !d.dying)
    .map(({ d }) => ({
      text: `d${d.domid} is log-dirty and has ${d.r.deviceCount} devices`,
      evidence: { domid: d.domid, devices: d.r.deviceCount },
    }));
}

/** No CPU has cached a translation to a frame that its domain has lost, unless a flush is due before it may be used. */
export function noTlbEntryToFreeFrame(s: Survey): Finding[] {
  const { h } = s;
  const found: Finding[] = [];
  for (let cpu = 0; cpu < h.config.pcpus; cpu++) {
    for (const { slot, gfn, leaf } of h.tlbs.entries(cpu)) {
      const d = h.slot(slot);
      if (!d.exists || flushPending(d, cpu)) continue;
      const m = slotFrame(leaf) as Mfn;
      const type = slotType(slotLow(leaf));
      if (type === p2mType.mmioDirect || !s.isHostRam(m)) continue;
      const lent = type === p2mType.mapForeign || isGrant(type) || type === p2mType.lent;
      if ((h.frames.count[m] as number) > 0 && (lent || h.frames.ownerOf(m) === d.domid)) continue;
      found.push({
        text: `cpu${cpu} still translates d${d.domid} gfn ${hex(gfn)} to mfn ${hex(m)}, which is no longer its own`,
        evidence: { cpu, domid: d.domid, gfn, mfn: m, owner: h.frames.ownerOf(m) },
      });
    }
  }
  return found;
}

export function noLockHeldAtSafepoint(s: Survey): Finding[] {
  const { h } = s;
  const found: Finding[] = [];
  const cpus = h.config.pcpus + h.config.dmaThreads + 1;
  for (let cpu = 0; cpu < cpus; cpu++) {
    if (h.lockTable.heldCount(cpu) === 0) continue;
    found.push({ text: `cpu${cpu} holds ${h.lockTable.describeHeld(cpu)}`, evidence: { cpu } });
  }
  return found;
}

export function claimsWithinFree(s: Survey): Finding[] {
  const { heap } = s.h;
  const claims = s.domains.reduce((sum, { d }) => sum + d.r.outstandingPages, 0);
  if (claims === heap.claimedPages && claims <= heap.freePages + heap.offlinedPages) return [];
  return [
    {
      text: `domains have claimed ${claims} pages, the heap counts ${heap.claimedPages} of ${heap.freePages} free`,
      evidence: { claims, counted: heap.claimedPages, free: heap.freePages },
    },
  ];
}

/** The pool's frames are on its list or behind a table of the domain. */
export function pagingPoolMatchesTables(s: Survey): Finding[] {
  const { tables } = s.h;
  const behind = new Map<number, number>();
  for (let t = 1; t < s.reached.length; t++) {
    if (s.reached[t] === 0 || tables.useOf(t as never) !== tableUse.p2m) continue;
    const slot = tables.domainSlotOf(t as never);
    behind.set(slot, (behind.get(slot) ?? 0) + 1);
  }
  return s.domains
    .filter(({ d }) => d.r.poolTotal !== d.pool.length + (behind.get(d.slot) ?? 0))
    .map(({ d }) => ({
      text: `d${d.domid}: the paging pool counts ${d.r.poolTotal} pages, ${d.pool.length} are free and ${behind.get(d.slot) ?? 0} are tables`,
      evidence: { domid: d.domid, total: d.r.poolTotal, free: d.pool.length, tables: behind.get(d.slot) ?? 0 },
    }));
}

/** What a table page held is gone when it is free: the next who gets it takes it for empty. */
export function freeTablesAreEmpty({ h }: Survey): Finding[] {
  const { tables } = h;
  for (let table = 1; table < tables.slotsEverUsed / SLOTS_PER_TABLE; table++) {
    if (tables.useOf(table as TableIndex) !== tableUse.free) continue;
    const first = table * SLOTS_PER_TABLE;
    for (let i = first; i < first + SLOTS_PER_TABLE; i++) {
      if (tables.slots[i] === 0) continue;
      const text = `table ${table} is free, and its entry ${i - first} is ${tables.slots[i]}`;
      return [{ text, evidence: { table, entry: i - first } }];
    }
  }
  return [];
}
