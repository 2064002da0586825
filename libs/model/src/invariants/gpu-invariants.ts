// State invariants of PV-IOMMU's bus frames and of mediated GPUs. Where memory has left a guest and its mediator has not been told
// yet (Xen's INVALIDATE is on its way) a shadow entry may name a gfn that has nothing: that is judged by what holds the frame.
import type { Mfn } from '../frames/addresses.ts';
import { resolveBus, shadowEntries } from '../gpu/bus-view.ts';
import { CONTEXTS_PER_VM, type GpuState, VM_CELLS, vmCell } from '../gpu/gpu-memory.ts';
import { ENTRIES, POISON, pteFrame, ptePresent, pteWritable } from '../gpu/pte.ts';
import { TrackedTables, tableState } from '../gpu/tracked-tables.ts';
import { bfnFlag } from '../iommu/pv-iommu-state.ts';
import { bank } from '../iommu/translation-cache.ts';
import { domidOfDid } from '../iommu/vtd/domain-ids.ts';
import { slotFrame } from '../p2m/entry.ts';
import { Leaf, peekEntry } from '../p2m/peek-entry.ts';
import { isRam, p2mType } from '../p2m/types.ts';
import type { Finding } from './findings.ts';
import type { Survey } from './survey.ts';

const hex = (n: number): string => n.toString(16);

const vmDomid = (gpu: GpuState, slot: number): number => (gpu.vms[slot * VM_CELLS + vmCell.domid] as number) - 1;

/** A bus frame, its record and its I/O entry name one frame; so does the way back. */
export function oneBusFrameNamesOneFrame(s: Survey): Finding[] {
  const { h } = s;
  const found: Finding[] = [];
  const mapped = new Map<number, number>();
  for (const run of s.domains.find(({ d }) => d.isHardware)?.busRuns ?? []) {
    for (let i = 0; i < run.pages; i++) mapped.set(run.from + i, run.to + i);
  }
  for (const { bfn, mfn } of h.pvIommu.records()) {
    const leaf = mapped.get(bfn) ?? -1;
    mapped.delete(bfn);
    const back = h.pvIommu.busOf(mfn);
    if (leaf === mfn && (back < 0 || h.pvIommu.record(back)?.mfn === mfn)) continue;
    const text = `bfn ${hex(bfn)} is recorded for mfn ${hex(mfn)}, the IOMMU leads to ${leaf < 0 ? 'nothing' : hex(leaf)}`;
    found.push({ text, evidence: { bfn, mfn, leaf, back } });
  }
  for (const [bfn, mfn] of mapped) {
    found.push({ text: `bfn ${hex(bfn)} leads to mfn ${hex(mfn)}, and nobody mapped it`, evidence: { bfn, mfn } });
  }
  return found;
}

/** What a bus frame names is not free, unless its owner asked for no reference. */
export function busFrameHoldsItsFrame(s: Survey): Finding[] {
  const { h } = s;
  const found: Finding[] = [];
  for (const { bfn, mfn, flags } of h.pvIommu.records()) {
    const asked = (flags & bfnFlag.noRef) !== 0 && (flags & bfnFlag.foreign) === 0;
    if (asked || (h.frames.count[mfn] as number) > 0) continue;
    found.push({ text: `bfn ${hex(bfn)} names mfn ${hex(mfn)}, which is free`, evidence: { bfn, mfn } });
  }
  return found;
}

/** No IOTLB has another translation of a bus frame than its record: nothing is left unflushed when a batch ends. */
export function busTranslationsAreFlushed(s: Survey): Finding[] {
  const { h } = s;
  const found: Finding[] = [];
  for (const unit of h.iommu.units) {
    for (const { bank: kind, did, frame, value } of unit.cache.cached()) {
      if (kind !== bank.leaf4k || !h.pvIommu.covers(frame) || domidOfDid(unit, did) !== h.dom0.domid) continue;
      const mfn = slotFrame(value);
      if (h.pvIommu.record(frame)?.mfn === mfn) continue;
      const text = `iommu:${unit.config.id} caches bfn ${hex(frame)} for mfn ${hex(mfn)}, which it no longer names`;
      found.push({ text, evidence: { unit: unit.config.id, bfn: frame, mfn } });
    }
  }
  return found;
}

/** Neither a shadow entry nor the GPU's TLB leads to a frame that the guest has lost. */
export function shadowEntryHoldsItsFrame(s: Survey): Finding[] {
  const { h } = s;
  const found: Finding[] = [];
  const judge = (gpu: GpuState, domid: number, bus: number, what: string): void => {
    const leaf = bus === POISON ? null : resolveBus(h, gpu, bus);
    if (leaf === null || !s.isHostRam(leaf.mfn)) return;
    const owner = h.frames.ownerOf(leaf.mfn as Mfn);
    if (owner === domid) return;
    found.push({
      text: `${what} of d${domid} leads to mfn ${hex(leaf.mfn)}, which ${owner < 0 ? 'is free' : `belongs to d${owner}`}`,
      evidence: { gpu: gpu.index, domid, bus, mfn: leaf.mfn, owner },
    });
  };
  for (const gpu of h.gpus.all) {
    for (const { domid, pte, table, index } of shadowEntries(h, gpu)) {
      judge(gpu, domid, pteFrame(pte), `entry ${index} of ${table < 0 ? 'the global table' : `shadow table ${table}`}`);
    }
    for (const entry of gpu.tlb.cached()) {
      const domid = vmDomid(gpu, Math.floor(entry.did / (CONTEXTS_PER_VM + 1)));
      if (domid >= 0) judge(gpu, domid, pteFrame(entry.value), `the GPU TLB's page ${hex(entry.frame)}`);
    }
  }
  return found;
}

/** A table whose writes are trapped was seen whole, and its shadow leads where the guest's p2m does, with no more rights. */
export function shadowAgreesWithGuestTable(s: Survey): Finding[] {
  const { h } = s;
  const found: Finding[] = [];
  const leaf = new Leaf();
  for (const gpu of h.gpus.all) {
    found.push(...unseenWrites(s, gpu));
    const tables = new TrackedTables(gpu);
    for (const { slot, domid, pte, guest, table, index } of shadowEntries(h, gpu)) {
      const d = h.slot(slot);
      if (d.domid !== domid || d.dying || pteFrame(pte) === POISON) continue;
      if (table >= 0 && tables.get(table, 'state') !== tableState.strict) continue;
      const m = peekEntry(h, d, pteFrame(guest), leaf);
      const to = resolveBus(h, gpu, pteFrame(pte));
      if (!isRam(leaf.type) || (to?.mfn === m && pteWritable(guest) === pteWritable(pte))) continue;
      const text = `d${domid}: entry ${index} of table ${table} names gfn ${hex(pteFrame(guest))} (mfn ${hex(m)}), its shadow leads to ${to === null ? 'nothing' : `mfn ${hex(to.mfn)}`}`;
      found.push({ text, evidence: { gpu: gpu.index, domid, table, index, mfn: m, shadow: to?.mfn ?? -1 } });
    }
  }
  return found;
}

/** Entries of trapped tables that the mediator has not been told of. */
function unseenWrites({ h }: Survey, gpu: GpuState): Finding[] {
  const tables = new TrackedTables(gpu);
  const leaf = new Leaf();
  for (let table = 0; table < tables.count; table++) {
    if (tables.get(table, 'state') !== tableState.strict) continue;
    const d = h.slot(tables.get(table, 'slot'));
    const gfn = tables.get(table, 'gfn');
    const m = d.dying ? -1 : peekEntry(h, d, gfn, leaf);
    if (m < 0 || leaf.type !== p2mType.ioreqServer) continue;
    for (let i = 0; i < ENTRIES; i++) {
      const written = h.gpus.contents.read(m as Mfn, i);
      if (written === gpu.seen[table * ENTRIES + i]) continue;
      const text = `d${d.domid}: entry ${i} of its table at gfn ${hex(gfn)} was written, and the shadow does not know`;
      return [{ text, evidence: { gpu: gpu.index, domid: d.domid, gfn, index: i, written } }];
    }
  }
  return [];
}

/** A mediator's trapped tables are exactly its guest's ioreq_server pages, each a 4K entry. */
export function trappedTablesAreIoreqPages(s: Survey): Finding[] {
  const { h } = s;
  const found: Finding[] = [];
  const leaf = new Leaf();
  for (const gpu of h.gpus.all) {
    const tables = new TrackedTables(gpu);
    for (const { d } of s.domains) {
      const server = gpu.vms[d.slot * VM_CELLS + vmCell.server] as number;
      if (vmDomid(gpu, d.slot) !== d.domid || d.dying || server === 0 || d.r.ioreqServer !== server) continue;
      let pages = 0;
      for (const table of tables.of(d.slot)) {
        if (tables.get(table, 'state') !== tableState.strict) continue;
        peekEntry(h, d, tables.get(table, 'gfn'), leaf);
        if (leaf.type === p2mType.ioreqServer && leaf.order === 0) pages++;
        else if (isRam(leaf.type)) {
          const gfn = tables.get(table, 'gfn');
          const text = `d${d.domid}: its GPU table at gfn ${hex(gfn)} should trap, and has type ${leaf.type}`;
          found.push({ text, evidence: { domid: d.domid, gfn, type: leaf.type } });
        }
      }
      if (pages === d.r.ioreqEntryCount) continue;
      const text = `d${d.domid}: ${pages} GPU tables trap, ${d.r.ioreqEntryCount} pages are of type ioreq_server`;
      found.push({ text, evidence: { domid: d.domid, pages, entries: d.r.ioreqEntryCount } });
    }
  }
  return found;
}

/** Every entry of the hardware's global table lies in exactly one guest's slices. */
export function globalEntriesLieInOneSlice(s: Survey): Finding[] {
  const found: Finding[] = [];
  for (const gpu of s.h.gpus.all) {
    const owners = new Int32Array(gpu.config.gmPages);
    for (let slot = 0; slot < s.h.config.maxDomains; slot++) {
      if (vmDomid(gpu, slot) < 0) continue;
      const [, low = 0, lowSize = 0, high = 0, highSize = 0] = gpu.vms.subarray(slot * VM_CELLS);
      for (let i = 0; i < lowSize; i++) owners[low + i] = (owners[low + i] ?? 0) + 1;
      for (let i = 0; i < highSize; i++) owners[high + i] = (owners[high + i] ?? 0) + 1;
    }
    const at = owners.findIndex((n, page) => n > 1 || (n === 0 && ptePresent(gpu.ggtt[page] as number)));
    if (at < 0) continue;
    const text = `page ${hex(at)} of graphics memory is ${owners[at] === 0 ? 'mapped for nobody' : `in ${owners[at]} guests' slices`}`;
    found.push({ text, evidence: { gpu: gpu.index, page: at, guests: owners[at] as number } });
  }
  return found;
}
