// Lazy changes of the p2m. A bulk change (all of a domain becomes log-dirty, say) does not visit every leaf: it marks the
// entries at the top, or of the range, as misconfigured. The first walk that meets one exits to Xen, which pushes the mark down
// one level at a time towards the gfn and computes the leaves there anew (as Xen's ept_invalidate_emt_* and resolve_misconfig).
// Whoever writes an entry resolves its path first. All functions: p2m write lock held.
//
//   root [M]──┐            root [ ]──┐              root [ ]──┐
//   dir  [ ]  │  touch →   dir  [M]  │  touch →     dir  [M] [ ]──┐
//   leaf rw   │            leaf rw   │              leaf rw       └ leaf logdirty
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { counter } from '../shared-memory/counters.ts';
import { load, publish, store } from '../shared-memory/slots.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { SLOTS_PER_TABLE, type TableIndex } from '../shared-memory/table-pages.ts';
import { deviceRights, updateIommu } from './device-view.ts';
import {
  levelOrder,
  ROOT_LEVEL,
  SLOT_MISCONFIG,
  SLOT_RECALC,
  SLOT_RIGHTS,
  SLOT_SP,
  slotAccess,
  slotFrame,
  slotLow,
  slotType,
  tableOffset,
} from './entry.ts';
import { leafOf } from './leaf-slot.ts';
import { mixesMemoryTypes } from './memory-type.ts';
import { isLogdirtyRange, recalcType } from './recalc.ts';
import { splitLeaf } from './split.ts';
import { isChangeable, p2mType } from './types.ts';

const C_RESOLVED = counter('p2m.misconfig');

function write(h: Host, index: number, slot: number): void {
  step(stepKind.ptWrite, index);
  publish();
  store(h.tables.slots, index, slot);
}

const isLeaf = (slot: number, level: number): boolean => level === 0 || (slotLow(slot) & SLOT_SP) !== 0;

/** Marks what is present in slots [first, last] of a table. True if any mark is new: a flush is due. */
function mark(h: Host, table: TableIndex, first: number, last: number, recalc: boolean): boolean {
  const wanted = SLOT_MISCONFIG | (recalc ? SLOT_RECALC : 0);
  let marked = false;
  for (let i = first; i <= last; i++) {
    const slot = h.tables.read(table, i);
    const low = slotLow(slot);
    if ((low & SLOT_RIGHTS) === 0 || (low & wanted) === wanted) continue;
    write(h, table * SLOTS_PER_TABLE + i, slot - low + (low | wanted));
    marked = true;
  }
  return marked;
}

/** All of the domain is to be computed anew. True: the caller flushes the CPUs. */
export const invalidateAll = (h: Host, d: Domain): boolean =>
  mark(h, d.r.p2mRoot as TableIndex, 0, SLOTS_PER_TABLE - 1, true);

/**
 * All of [first, last], at the highest levels that fit; a leaf that reaches beyond it is split. 1 if a flush is due, 0 if not,
 * -ENOMEM: part of the range is marked.
 */
export function invalidateRange(h: Host, d: Domain, first: number, last: number): number {
  let low = first;
  let high = last;
  let sync = 0;
  for (let level = 0; low <= high; ) {
    // The gfns of one table of this level.
    const span = 512 ** (level + 1);
    let from = low;
    let to = high;
    if (level < ROOT_LEVEL) {
      if (low % span !== 0) to = Math.min(low - (low % span) + span - 1, high);
      else if (high % span !== span - 1) from = Math.max(low, high - (high % span));
      else {
        level++;
        continue;
      }
    }
    const rc = invalidateSlots(h, d, level, from, to);
    if (rc < 0) return rc;
    sync |= rc;
    if (from === low) low = to + 1;
    else high = from - 1;
  }
  return sync;
}

/** ept_invalidate_emt_range: the slots of `target` level that cover [first, last], all in one table. */
function invalidateSlots(h: Host, d: Domain, target: number, first: number, last: number): number {
  const { slots } = h.tables;
  let table = d.r.p2mRoot as TableIndex;
  for (let level = ROOT_LEVEL; level > target; level--) {
    const index = table * SLOTS_PER_TABLE + tableOffset(first, level);
    const slot = load(slots, index);
    if (slot === 0) return 0;
    if (isLeaf(slot, level)) {
      const rc = splitLeaf(h, d, index, slot, level, target, first);
      if (rc !== 0) return rc;
    }
    table = slotFrame(load(slots, index)) as TableIndex;
  }
  return mark(h, table, tableOffset(first, target), tableOffset(last, target), true) ? 1 : 0;
}

/**
 * resolve_misconfig: makes the path to `g` one that a CPU accepts. 1: something was pending, 0: nothing was, -ENOMEM: a
 * superpage must be split and there is no table memory (what was done so far stays, and is consistent).
 */
export function resolveMisconfig(h: Host, d: Domain, g: number): number {
  const { slots } = h.tables;
  let table = d.r.p2mRoot as TableIndex;
  let resolved = 0;
  for (let level = ROOT_LEVEL; ; level--) {
    const index = table * SLOTS_PER_TABLE + tableOffset(g, level);
    const slot = load(slots, index);
    const low = slotLow(slot);
    if (slot === 0 || (isLeaf(slot, level) && (low & SLOT_MISCONFIG) === 0)) break;
    if ((low & SLOT_MISCONFIG) !== 0) {
      resolved = 1;
      if (level === 0) {
        resolveTable(h, d, table, g - (g % SLOTS_PER_TABLE));
        break;
      }
      if (!isLeaf(slot, level)) pushDown(h, index, slot);
      else if (!mustSplit(h, d, slot, level, g)) {
        write(h, index, settled(h, d, slot, level, g - (g % 2 ** levelOrder(level))));
        break;
      } else {
        // The children inherit the mark, and the walk goes on through them.
        const rc = splitLeaf(h, d, index, slot, level, level - 1, g);
        if (rc !== 0) return rc;
      }
    }
    table = slotFrame(load(slots, index)) as TableIndex;
  }
  if (resolved === 1) h.counters.add(C_RESOLVED);
  return resolved;
}

/** The table below takes the mark over before the entry loses it. */
function pushDown(h: Host, index: number, slot: number): void {
  const low = slotLow(slot);
  mark(h, slotFrame(slot) as TableIndex, 0, SLOTS_PER_TABLE - 1, (low & SLOT_RECALC) !== 0);
  write(h, index, slot - low + (low & ~(SLOT_MISCONFIG | SLOT_RECALC)));
}

/** Part of the superpage is log-dirty and part is not, or its frames need different memory types. */
function mustSplit(h: Host, d: Domain, slot: number, level: number, g: number): boolean {
  const low = slotLow(slot);
  const type = slotType(low);
  const order = levelOrder(level);
  const first = g - (g % 2 ** order);
  if (mixesMemoryTypes(h, d, slotFrame(slot), order, type)) return true;
  if ((low & SLOT_RECALC) === 0 || !isChangeable(type)) return false;
  h.assert(type !== p2mType.ioreqServer, 'entries of an ioreq server are 4K');
  return isLogdirtyRange(d, first, first + 2 ** order - 1) === -1;
}

/** The leaf as it is now to be: marks gone, its type computed anew if that is pending. `first` = its first gfn. */
function settled(h: Host, d: Domain, slot: number, level: number, first: number): number {
  const low = slotLow(slot);
  const type = slotType(low);
  const fresh = (low & SLOT_RECALC) !== 0 ? recalcType(d, type, first) : type;
  if (fresh === type) return slot - low + (low & ~(SLOT_MISCONFIG | SLOT_RECALC));
  return leafOf(h, d, slotFrame(slot), level, fresh, slotAccess(low));
}

/** Xen settles all 512 leaves of the last table at once: whoever touches one page touches its neighbours. */
function resolveTable(h: Host, d: Domain, table: TableIndex, first: number): void {
  for (let i = 0; i < SLOTS_PER_TABLE; i++) {
    const slot = h.tables.read(table, i);
    const low = slotLow(slot);
    if ((low & SLOT_MISCONFIG) === 0) continue;
    h.assert(slotFrame(slot) !== INVALID_MFN, 'a misconfigured leaf names a frame');
    const fresh = settled(h, d, slot, 0, first + i);
    const type = slotType(low);
    if (type === p2mType.ioreqServer && slotType(slotLow(fresh)) !== type) {
      d.r.ioreqEntryCount--;
      h.assert(d.r.ioreqEntryCount >= 0, 'ioreq entry_count >= 0');
    }
    write(h, table * SLOTS_PER_TABLE + i, fresh);
    tellDevices(h, d, first + i, slot, fresh);
  }
}

/** Deviation: Xen's resolve_misconfig leaves separate I/O tables alone. Ours follow when rights differ (ioreq_server, ram_rw). */
function tellDevices(h: Host, d: Domain, g: number, old: number, fresh: number): void {
  if (!d.has('needSync')) return;
  const rights = deviceRights(h, d, fresh);
  if (rights !== deviceRights(h, d, old)) updateIommu(h, d, g, 1, fresh, rights, true);
}
