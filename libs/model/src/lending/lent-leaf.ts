// The leaves of a window as slots of the borrower's tables. They are stored directly: every table they need has been there since
// the window was opened, so no walk here allocates or splits, and nothing on the way can fail. Borrower's p2m lock held.
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { levelOrder, makeLeaf, ROOT_LEVEL, SLOT_SP, slotFrame, slotLow, slotType, tableOffset } from '../p2m/entry.ts';
import { p2mAccess, p2mType } from '../p2m/types.ts';
import { load, publish, store } from '../shared-memory/slots.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { SLOTS_PER_TABLE } from '../shared-memory/table-pages.ts';

/** Index of the slot of `level` that covers `g`, or -1: the tables do not reach so far. */
export function leafIndex(h: Host, d: Domain, g: number, level: number): number {
  const { slots } = h.tables;
  let table = d.r.p2mRoot;
  if (table === 0) return -1;
  for (let at = ROOT_LEVEL; at > level; at--) {
    const slot = load(slots, table * SLOTS_PER_TABLE + tableOffset(g, at));
    if (slot === 0 || (slotLow(slot) & SLOT_SP) !== 0) return -1;
    table = slotFrame(slot);
  }
  return table * SLOTS_PER_TABLE + tableOffset(g, level);
}

export const lentSlot = (m: Mfn, level: number, readonly: boolean): number =>
  makeLeaf(m, level, p2mType.lent, readonly ? p2mAccess.r : p2mAccess.rw);

export const absentSlot = (level: number): number => makeLeaf(INVALID_MFN, level, p2mType.lentAbsent, p2mAccess.rwx);

export const isLentSlot = (slot: number): boolean => slot !== 0 && slotType(slotLow(slot)) === p2mType.lent;
export const isAbsentSlot = (slot: number): boolean => slot !== 0 && slotType(slotLow(slot)) === p2mType.lentAbsent;

export function writeSlot(h: Host, index: number, slot: number): void {
  step(stepKind.ptWrite, index);
  publish();
  store(h.tables.slots, index, slot);
}

/**
 * Calls `visit` with each slot of [first, last] at the window's level; one walk for a table's worth of them. Slots that no table
 * has are left out (a window whose opening was cut short).
 */
export function eachSlot(
  h: Host,
  d: Domain,
  first: number,
  last: number,
  level: number,
  visit: (g: number, index: number) => void,
): void {
  const pages = 2 ** levelOrder(level);
  let index = -1;
  for (let g = first; g <= last; g += pages) {
    const fresh = g === first || tableOffset(g, level) === 0;
    if (fresh) index = leafIndex(h, d, g, level);
    else if (index >= 0) index++;
    if (index >= 0) visit(g, index);
  }
}
