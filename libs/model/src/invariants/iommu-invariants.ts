// State invariants of I/O tables and IOTLBs.
import type { Domain } from '../domain/domain.ts';
import { formatSbdf } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { markerOf, withoutMarker } from '../iommu/contiguity.ts';
import { deviceTlb } from '../iommu/device-tlb.ts';
import { mapsAllRam } from '../iommu/one-to-one.ts';
import { bank } from '../iommu/translation-cache.ts';
import { domidOfDid } from '../iommu/vtd/domain-ids.ts';
import { SLOT_SP, slotFrame } from '../p2m/entry.ts';
import { SLOTS_PER_TABLE, type TableIndex, tableUse } from '../shared-memory/table-pages.ts';
import type { Finding } from './findings.ts';
import { firstOverlap, type Run } from './runs.ts';
import type { Survey } from './survey.ts';

const hex = (n: number): string => n.toString(16);
const PRESENT = 3;

export function noIommuMappingForPodGfn(s: Survey): Finding[] {
  const found = [...s.findings.of('noIommuMappingForPodGfn')];
  for (const { d, podRuns, ioRuns } of s.domains) {
    const overlap = firstOverlap(podRuns, ioRuns);
    if (!overlap) continue;
    const dfn = Math.max(overlap.a.from, overlap.b.from);
    found.push({
      text: `d${d.domid} gfn ${hex(dfn)} is PoD, and the IOMMU maps it`,
      evidence: { domid: d.domid, gfn: dfn },
    });
  }
  return found;
}

const show = (run: Run | undefined): string =>
  run ? `${hex(run.from)}+${hex(run.pages)} to ${hex(run.to)} (${run.rights})` : 'nothing';

/** Separate tables translate exactly what the p2m gives a device, no more and no less. */
export function iommuMirrorsP2m(s: Survey): Finding[] {
  const found: Finding[] = [];
  for (const { d, p2mRuns, ioRuns } of s.domains) {
    if (!d.has('needSync') || !d.isTranslated || d.dying || d.crashed) continue;
    const at = p2mRuns.firstDifference(ioRuns);
    if (at < 0) continue;
    found.push({
      text: `d${d.domid}: the p2m gives devices ${show(p2mRuns.at(at))}, the IOMMU maps ${show(ioRuns.at(at))}`,
      evidence: { domid: d.domid, run: at },
    });
  }
  return found;
}

export function noIommuLeafToFreeFrame(s: Survey): Finding[] {
  const { h } = s;
  const found: Finding[] = [];
  for (const { d, ioRuns } of s.domains) {
    if (mapsAllRam(d)) continue;
    for (const run of ioRuns) {
      const m = firstFree(s, run.to, run.pages);
      if (m < 0) continue;
      const dfn = run.from + m - run.to;
      found.push({
        text: `d${d.domid}: dfn ${hex(dfn)} maps mfn ${hex(m)}, which is free`,
        evidence: { domid: d.domid, dfn, mfn: m, owner: h.frames.ownerOf(m as never) },
      });
      break;
    }
  }
  return found;
}

/** The first frame of a run that is host RAM and free, or -1. */
function firstFree(s: Survey, start: number, pages: number): number {
  for (const range of s.h.config.heapRanges) {
    const end = Math.min(range.end, start + pages);
    for (let m = Math.max(range.start, start); m < end; m++) if (s.h.frames.count[m] === 0) return m;
  }
  return -1;
}

const leafBanks: readonly number[] = [bank.leaf4k, bank.leaf2m, bank.leaf1g];

export function noIotlbEntryToFreeFrame(s: Survey): Finding[] {
  const { h } = s;
  const found: Finding[] = [];
  for (const unit of h.iommu.units) {
    for (const entry of unit.cache.cached()) {
      const domid = domidOfDid(unit, entry.did);
      if (s.domains.some(({ d }) => d.domid === domid && mapsAllRam(d))) continue;
      const where = `iommu:${unit.config.id} caches d${domid} dfn ${hex(entry.frame)}`;
      const evidence = { unit: unit.config.id, domid, dfn: entry.frame };
      if (leafBanks.includes(entry.bank)) {
        const m = firstFree(s, slotFrame(entry.value), 2 ** entry.order);
        if (m >= 0) found.push({ text: `${where}, whose frame ${hex(m)} is free`, evidence: { ...evidence, mfn: m } });
      } else if (h.tables.useOf(entry.value as TableIndex) === tableUse.free) {
        found.push({ text: `${where} through table ${entry.value}, which is free`, evidence });
      }
    }
  }
  return [...found, ...deviceTlbsToFreeFrames(s)];
}

function deviceTlbsToFreeFrames(s: Survey): Finding[] {
  const { h } = s;
  const found: Finding[] = [];
  for (const [device, { sbdf }] of h.config.devices.entries()) {
    for (const entry of deviceTlb(h, device)?.cached() ?? []) {
      const m = firstFree(s, slotFrame(entry.value), 2 ** entry.order);
      if (m < 0) continue;
      const text = `the TLB of ${formatSbdf(sbdf)} holds dfn ${hex(entry.frame)}, whose frame ${hex(m)} is free`;
      found.push({ text, evidence: { sbdf, dfn: entry.frame, mfn: m } });
    }
  }
  return found;
}

export function everyTableIsReachableOnce(s: Survey): Finding[] {
  const { h } = s;
  const found = [...s.findings.of('everyTableIsReachableOnce')];
  for (let device = 0; device < h.config.devices.length; device++) {
    const root = h.iommu.quarantineRoots[device] as number;
    if (root !== 0) s.reachTree(root, h.iommu.unitOf(device).config.levels - 1);
  }
  for (const first of h.iommu.queueHeads) {
    for (let table = first; table !== 0; table = h.iommu.queueNext[table] as number) s.reachOne(table, 'a free queue');
  }
  if (s.reachedCount === h.tables.inUse) return found;
  const lost: number[] = [];
  for (let t = 1; t < s.reached.length && lost.length < 4; t++) {
    if (s.reached[t] === 0 && h.tables.useOf(t as TableIndex) !== tableUse.free) lost.push(t);
  }
  found.push({
    text: `${h.tables.inUse} table pages are in use, ${s.reachedCount} can be reached; lost: ${lost.join(', ') || 'none'}`,
    evidence: { inUse: h.tables.inUse, reached: s.reachedCount },
  });
  return found;
}

export function contiguityMarkersTrue(s: Survey): Finding[] {
  const found: Finding[] = [];
  for (const { d } of s.domains) {
    if (d.r.iommuRoot !== 0) checkTree(s.h, d, d.r.iommuRoot, 3, found);
  }
  return found;
}

function checkTree(h: Host, d: Domain, table: number, level: number, found: Finding[]): void {
  const { slots } = h.tables;
  const base = table * SLOTS_PER_TABLE;
  const truth = new Uint8Array(SLOTS_PER_TABLE);
  for (let i = SLOTS_PER_TABLE - 1; i >= 0; i--) {
    const slot = slots[base + i] as number;
    const isTable = level > 0 && (slot & PRESENT) !== 0 && (slot & SLOT_SP) === 0;
    if (isTable) checkTree(h, d, slotFrame(slot), level - 1, found);
    truth[i] = isTable ? 0 : runOrder(slots, base, i, level, truth);
    if (truth[i] === markerOf(slot) || found.length > 3) continue;
    found.push({
      text: `d${d.domid}: table ${table} entry ${i} of level ${level} is marked ${markerOf(slot)}, its run has order ${truth[i]}`,
      evidence: { domid: d.domid, table, index: i, marker: markerOf(slot), order: truth[i] as number },
    });
  }
}

/** log2 of the run that starts at entry i, from the runs of all entries above it. */
function runOrder(slots: Float64Array, base: number, i: number, level: number, truth: Uint8Array): number {
  const slot = withoutMarker(slots[base + i] as number);
  const present = (slot & PRESENT) !== 0;
  const span = 512 ** level;
  if (present && Math.floor(slotFrame(slot) / span) % SLOTS_PER_TABLE !== i) return 0;
  const most = i === 0 ? 9 : 31 - Math.clz32(i & -i);
  let order = 0;
  while (order < most) {
    const next = i + 2 ** order;
    const expected = present ? slot + 2 ** order * span * 65_536 : slot;
    if (truth[next] !== order || withoutMarker(slots[base + next] as number) !== expected) break;
    order++;
  }
  return order;
}
