// How one request is translated: the device's own TLB if it has one, the unit's context, IOTLB and paging-structure caches,
// tables. One object per DMA thread; it runs inside an open transaction, takes no lock and never waits. Faults are answers
// here; who logs them is dma.ts.
import type { Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { slotFrame } from '../p2m/entry.ts';
import { counter } from '../shared-memory/counters.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { type TableIndex, tableUse } from '../shared-memory/table-pages.ts';
import {
  contextDid,
  contextLevels,
  contextPresent,
  contextRoot,
  contextShared,
  contextType,
  contextTypeOf,
} from './context-entry.ts';
import { DEVICE_TLB_DID, deviceTlb } from './device-tlb.ts';
import type { Unit } from './iommu-state.ts';
import { bank, type TranslationCache } from './translation-cache.ts';
import { faultReason } from './vtd/fault-text.ts';
import { tableAt, WALK_READ, WALK_WRITE, walkLevel, walkTables, withinWidth, withoutLevel } from './walk.ts';

const C_HIT = counter('iotlb.hit');
const C_MISS = counter('iotlb.miss');
const C_WALK = counter('iommu.walkSteps');
const C_DEVICE_HIT = counter('deviceTlb.hit');

const refused = (needed: number): number => -(needed === WALK_WRITE ? faultReason.noWrite : faultReason.noRead);

export class Translator {
  private readonly h: Host;
  /** Of the last translation: the domain id it ran under, whether its tables are the EPT's, pass-through. */
  did = 0;
  shared = false;
  passThrough = false;
  /** It came from the device's own TLB: no context had a say in it. */
  translated = false;
  /** Owner of the frame (domid + 1, 0 = nobody) when the translation was read from the tables. */
  ownerThen = 0;
  private sequence = 0;

  constructor(h: Host) {
    this.h = h;
  }

  /** The 4K slot that `dfn` translates to for a request of that id (`needed`: 1 read, 2 write), or minus the fault reason. */
  translate(unit: Unit, requester: number, dfn: number, needed: number): number {
    this.sequence = unit.cache.sequence;
    this.translated = false;
    const context = this.context(unit, requester);
    if (context < 0) return context;
    if (!contextPresent(context)) return -faultReason.noContextEntry;
    const type = contextTypeOf(context);
    if (type === contextType.reserved) return -faultReason.invalidContextEntry;
    const levels = contextLevels(context);
    if (!withinWidth(dfn, levels)) return -faultReason.beyondWidth;
    this.did = contextDid(context);
    this.shared = contextShared(context);
    this.passThrough = type === contextType.passThrough;
    if (this.passThrough) return dfn * 65536 + 3;
    if (type === contextType.multiLevelAts) return this.byDevice(unit, requester, context, dfn, needed);
    return this.byUnit(unit, context, dfn, needed);
  }

  /** A translated request is not looked at again; else the device asks the unit for a translation, and keeps it. */
  private byDevice(unit: Unit, requester: number, context: number, dfn: number, needed: number): number {
    const tlb = deviceTlb(this.h, this.h.iommu.requesters.at(requester).device);
    if (tlb === null) return this.byUnit(unit, context, dfn, needed);
    const { sequence } = tlb;
    const kept = this.cached(tlb, DEVICE_TLB_DID, dfn, needed);
    if (kept > 0) {
      this.h.counters.add(C_DEVICE_HIT);
      this.translated = true;
      return kept;
    }
    const slot = this.byUnit(unit, context, dfn, needed);
    if (slot > 0) tlb.fill(bank.leaf4k, DEVICE_TLB_DID, dfn, withoutLevel(slot), this.ownerThen, sequence);
    return slot;
  }

  private byUnit(unit: Unit, context: number, dfn: number, needed: number): number {
    const cached = this.cached(unit.cache, this.did, dfn, needed);
    if (cached !== 0) {
      this.h.counters.add(C_HIT);
      return cached;
    }
    this.h.counters.add(C_MISS);
    return this.walk(unit, contextRoot(context), dfn, needed, contextLevels(context));
  }

  /** The requester's context entry (0 = absent), or minus the reason. */
  private context(unit: Unit, requester: number): number {
    const hit = unit.cache.lookup(bank.context, 0, requester);
    if (hit >= 0) return hit;
    step(stepKind.hwWalk, requester);
    const bus = (this.h.iommu.requesters.at(requester).sbdf >>> 8) & 0xff;
    if (Atomics.load(unit.roots, bus) === 0) return -faultReason.noRootEntry;
    const entry = this.h.iommu.contexts[requester] as number;
    if (contextPresent(entry) || unit.config.cachingMode) {
      unit.cache.fill(bank.context, 0, requester, entry, 0, this.sequence);
    }
    return entry;
  }

  /** From a TLB: a slot, minus a reason (a cached absence), or 0 for a miss. Too few rights: the unit walks again. */
  private cached(cache: TranslationCache, did: number, dfn: number, needed: number): number {
    for (let level = 0; level < 3; level++) {
      const slot = cache.lookup(level, did, dfn);
      if (slot < 0) continue;
      if ((slot & 3) === 0) return refused(needed);
      if ((slot & needed) === 0) return 0;
      this.ownerThen = cache.extra;
      return level === 0 ? slot : slot + (dfn % 512 ** level) * 65536;
    }
    return 0;
  }

  private walk(unit: Unit, root: number, dfn: number, needed: number, levels: number): number {
    const { h, did } = this;
    const { cache } = unit;
    let table = this.structure(unit, bank.tableOf2m, dfn);
    let depth = 1;
    if (table === 0) {
      table = this.structure(unit, bank.tableOf1g, dfn);
      depth = 2;
    }
    if (table === 0 || depth > levels) {
      table = root;
      depth = levels;
    }
    step(stepKind.hwWalk, dfn);
    h.counters.add(C_WALK, depth);
    const leaf = walkTables(h.tables.slots, table, dfn, needed, depth);
    if (leaf < 0) {
      // A caching-mode unit remembers that nothing is there at all (not that a right is missing).
      const other = needed === WALK_WRITE ? WALK_READ : WALK_WRITE;
      if (unit.config.cachingMode && walkTables(h.tables.slots, table, dfn, other, depth) < 0) {
        cache.fill(bank.leaf4k, did, dfn, 0, 0, this.sequence);
      }
      return leaf;
    }
    const level = walkLevel(leaf);
    if ((level === 1 && !unit.config.superpage2m) || (level === 2 && !unit.config.superpage1g)) {
      return -faultReason.reservedInPte;
    }
    const m = slotFrame(leaf) as Mfn;
    this.ownerThen = h.frames.valid(m) ? h.frames.ownerOf(m) + 1 : 0;
    step(stepKind.tlbFill, dfn);
    const first = level === 0 ? leaf : leaf - (dfn % 512 ** level) * 65536;
    cache.fill(level, did, dfn, first, this.ownerThen, this.sequence);
    if (depth > 1) this.keep(unit, bank.tableOf2m, dfn, tableAt(h.tables.slots, table, dfn, depth, 0));
    if (depth > 2) this.keep(unit, bank.tableOf1g, dfn, tableAt(h.tables.slots, table, dfn, depth, 1));
    return leaf;
  }

  private keep(unit: Unit, index: number, dfn: number, table: number): void {
    if (table === 0) return;
    unit.cache.fill(index, this.did, dfn, table, this.h.tables.generationOf(table as TableIndex), this.sequence);
  }

  /** A table from the paging-structure cache, or 0. A table that was freed meanwhile is found here only after a lost flush. */
  private structure(unit: Unit, index: number, dfn: number): number {
    const { h } = this;
    const table = unit.cache.lookup(index, this.did, dfn);
    if (table < 0) return 0;
    const use = h.tables.useOf(table as TableIndex);
    if (use !== tableUse.free && h.tables.generationOf(table as TableIndex) === unit.cache.extra) return table;
    h.platform.violation({
      invariant: 'noWalkThroughFreedTable',
      text: `iommu:${unit.config.id} walks dfn ${dfn.toString(16)} through table ${table}, which was freed`,
      evidence: { unit: unit.config.id, did: this.did, dfn, table },
    });
    // Hardware would go on through whatever the page holds now; so does the model.
    return table;
  }
}
