// What a shared GPU could reach, read from the tables it is behind: where a bus frame leads, and how much of host RAM its context
// entry opens. For figures and invariants: no lock, no step, at a time when nobody changes tables.
import type { Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { contextLevels, contextPresent, contextRoot, contextType, contextTypeOf } from '../iommu/context-entry.ts';
import { WALK_READ, walkTables, withinWidth } from '../iommu/walk.ts';
import { SLOT_SP, slotFrame } from '../p2m/entry.ts';
import { type GpuState, VM_CELLS, vmCell } from './gpu-memory.ts';
import { ENTRIES, POISON, pteFrame, ptePresent } from './pte.ts';
import { TrackedTables } from './tracked-tables.ts';

const RW = 3;

interface Root {
  readonly table: number;
  readonly levels: number;
}

/** The tables that the GPU's context entry names; null: it passes everything, or nothing. */
function rootOf(h: Host, gpu: GpuState): Root | null {
  const device = h.iommu.deviceIndex(gpu.config.sbdf);
  const entry = device < 0 ? 0 : (h.iommu.contexts[device] as number);
  const type = contextTypeOf(entry);
  if (!contextPresent(entry) || type === contextType.passThrough || type === contextType.reserved) return null;
  return { table: contextRoot(entry), levels: contextLevels(entry) };
}

export interface BusLeaf {
  readonly mfn: number;
  /** Bits R 1, W 2. */
  readonly rights: number;
}

/** Where the IOMMU leads the GPU at that bus frame; null: a fault. */
export function resolveBus(h: Host, gpu: GpuState, bus: number): BusLeaf | null {
  const root = rootOf(h, gpu);
  if (root === null || !withinWidth(bus, root.levels)) return null;
  const leaf = walkTables(h.tables.slots, root.table, bus, WALK_READ, root.levels);
  return leaf < 0 ? null : { mfn: slotFrame(leaf), rights: leaf & RW };
}

function markReachable(h: Host, table: number, level: number, seen: Uint8Array): void {
  for (let i = 0; i < ENTRIES; i++) {
    const slot = h.tables.slots[table * ENTRIES + i] as number;
    if ((slot & RW) === 0) continue;
    if (level > 0 && (slot & SLOT_SP) === 0) markReachable(h, slotFrame(slot), level - 1, seen);
    else {
      const first = slotFrame(slot);
      seen.fill(1, Math.min(first, seen.length), Math.min(first + 512 ** level, seen.length));
    }
  }
}

/** Of a shadow or global table, an entry that the GPU can use. */
export interface ShadowEntry {
  readonly slot: number;
  readonly domid: number;
  readonly pte: number;
  /** What the guest wrote when it was made. */
  readonly guest: number;
  /** Record of the table; -1: the global table. */
  readonly table: number;
  readonly index: number;
}

/** All entries of leaf tables and of the global table that name a frame. */
export function* shadowEntries(h: Host, gpu: GpuState): Generator<ShadowEntry> {
  const tables = new TrackedTables(gpu);
  for (let slot = 0; slot < h.config.maxDomains; slot++) {
    const vm = gpu.vms.subarray(slot * VM_CELLS, (slot + 1) * VM_CELLS);
    const domid = (vm[vmCell.domid] as number) - 1;
    if (domid < 0) continue;
    for (const table of tables.of(slot)) {
      if (tables.get(table, 'level') !== 1) continue;
      for (let index = 0; index < ENTRIES; index++) {
        const pte = gpu.shadow[table * ENTRIES + index] as number;
        if (!ptePresent(pte)) continue;
        yield { slot, domid, pte, guest: gpu.seen[table * ENTRIES + index] as number, table, index };
      }
    }
    for (const [base, size] of [
      [vmCell.lowBase, vmCell.lowSize],
      [vmCell.highBase, vmCell.highSize],
    ] as const) {
      for (let index = vm[base] as number; index < (vm[base] as number) + (vm[size] as number); index++) {
        const pte = gpu.ggtt[index] as number;
        if (ptePresent(pte)) yield { slot, domid, pte, guest: gpu.guestGgtt[index] as number, table: -1, index };
      }
    }
  }
}

/** Frames of host RAM by what they are to the GPU. `reachable` is the sum of the others. */
export interface Exposure {
  readonly reachable: number;
  /** dom0's own. */
  readonly own: number;
  /** Named by a shadow entry: what guests gave it. */
  readonly shadowed: number;
  /** Beyond: guests' other frames, frames that nobody has, Xen's. The isolation figure is their sum. */
  readonly guests: number;
  readonly free: number;
  readonly xen: number;
  readonly beyond: number;
}

export function exposure(h: Host, gpu: GpuState): Exposure {
  const root = rootOf(h, gpu);
  const seen = new Uint8Array(h.config.frames);
  if (root !== null) markReachable(h, root.table, root.levels - 1, seen);
  const named = new Set<number>();
  for (const { pte } of shadowEntries(h, gpu)) {
    const leaf = pteFrame(pte) === POISON ? null : resolveBus(h, gpu, pteFrame(pte));
    if (leaf !== null) named.add(leaf.mfn);
  }
  const sums = { own: 0, shadowed: 0, guests: 0, free: 0, xen: 0 };
  for (const { start, end } of h.config.heapRanges) {
    for (let m = start; m < end; m++) {
      if (seen[m] === 0) continue;
      const owner = h.frames.ownerOf(m as Mfn);
      if (named.has(m)) sums.shadowed++;
      else if (owner === h.dom0.domid) sums.own++;
      else if (owner >= 0) sums.guests++;
      else if ((h.frames.count[m] as number) > 0) sums.xen++;
      else sums.free++;
    }
  }
  const beyond = sums.guests + sums.free + sums.xen;
  return { ...sums, beyond, reachable: beyond + sums.own + sums.shadowed };
}
