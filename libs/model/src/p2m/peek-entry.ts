// Reading the p2m without populating anything: what the tables say about a gfn. Without the lock it is a peek, stale at once.
// Populating lookups, and ways to hold on to what was read, are in get-entry.ts.
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, type Mfn, type Order } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { load } from '../shared-memory/slots.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { SLOTS_PER_TABLE } from '../shared-memory/table-pages.ts';
import {
  levelOrder,
  ROOT_LEVEL,
  SLOT_RECALC,
  SLOT_SP,
  slotAccess,
  slotFrame,
  slotLow,
  slotType,
  tableOffset,
} from './entry.ts';
import { recalcType } from './recalc.ts';
import { p2mAccess, p2mType } from './types.ts';

/** What a lookup found; reused by the caller, so it costs nothing. */
export class Leaf {
  mfn: Mfn = INVALID_MFN;
  type: number = p2mType.mmioDm;
  access: number = p2mAccess.n;
  /** The entry covers 2^order gfns. */
  order: Order = 0;
}

/** Anything absent looks like emulated MMIO without rights. */
export function absent(out: Leaf, order: Order): Mfn {
  out.mfn = INVALID_MFN;
  out.type = p2mType.mmioDm;
  out.access = p2mAccess.n;
  out.order = order;
  return INVALID_MFN;
}

/** A translated domain without a root is dying: nothing is mapped. PV: gfn == mfn, whatever is there (__get_gfn_type_access). */
function untranslated(d: Domain, g: number, out: Leaf): Mfn {
  if (d.isTranslated) return absent(out, 0);
  out.mfn = g as Mfn;
  out.type = p2mType.ramRw;
  out.access = p2mAccess.rwx;
  out.order = 0;
  return out.mfn;
}

/** Levels of an absent answer above everything ever mapped: the largest that lies wholly above it. */
function absentAbove(d: Domain, g: number, out: Leaf): Mfn {
  for (let level = ROOT_LEVEL; level > 0; level--) {
    if (g - (g % 2 ** levelOrder(level)) > d.r.maxMappedPfn) return absent(out, levelOrder(level));
  }
  return absent(out, 0);
}

/**
 * The entry at `g` as it stands (get_gfn_query's ept_get_entry): a PoD entry is reported as such, without a frame; a type that a
 * bulk change has left pending as what it will be. A domain that is not translated is claimed to have RAM everywhere.
 */
export function peekEntry(h: Host, d: Domain, g: number, out: Leaf): Mfn {
  const root = d.r.p2mRoot;
  if (root === 0) return untranslated(d, g, out);
  const { slots } = h.tables;
  if (g > d.r.maxMappedPfn || g < 0) return absentAbove(d, g, out);
  step(stepKind.p2mRead, g);
  let level = ROOT_LEVEL;
  let slot = load(slots, root * SLOTS_PER_TABLE + tableOffset(g, level));
  let low = slotLow(slot);
  let pending = low;
  while (slot !== 0 && level > 0 && (low & SLOT_SP) === 0) {
    level--;
    slot = load(slots, slotFrame(slot) * SLOTS_PER_TABLE + tableOffset(g, level));
    low = slotLow(slot);
    pending |= low;
  }
  const order = levelOrder(level);
  if (slot === 0) return absent(out, order);
  const frame = slotFrame(slot);
  out.type = (pending & SLOT_RECALC) === 0 ? slotType(low) : recalcType(d, slotType(low), g);
  out.access = slotAccess(low);
  out.order = order;
  const framed = out.type !== p2mType.populateOnDemand && frame !== INVALID_MFN;
  out.mfn = (framed ? frame + (g % 2 ** order) : INVALID_MFN) as Mfn;
  return out.mfn;
}
