// Reading the p2m without populating anything: what the tables say about a gfn. Without the lock it is a peek, stale at once.
// Populating lookups, and ways to hold on to what was read, are in get-entry.ts.
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, type Mfn, type Order } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { load } from '../shared-memory/slots.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { SLOTS_PER_TABLE } from '../shared-memory/table-pages.ts';
import { levelOrder, ROOT_LEVEL, SLOT_SP, slotAccess, slotFrame, slotLow, slotType, tableOffset } from './entry.ts';
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

/** Levels of an absent answer above everything ever mapped: the largest that lies wholly above it. */
function absentAbove(d: Domain, g: number, out: Leaf): Mfn {
  for (let level = ROOT_LEVEL - 1; level > 0; level--) {
    if (g - (g % 2 ** levelOrder(level)) > d.r.maxMappedPfn) return absent(out, levelOrder(level));
  }
  return absent(out, 0);
}

/** The entry at `g` as it stands (get_gfn_query's ept_get_entry): a PoD entry is reported as such, without a frame. */
export function peekEntry(h: Host, d: Domain, g: number, out: Leaf): Mfn {
  const { slots } = h.tables;
  if (g > d.r.maxMappedPfn || g < 0) return absentAbove(d, g, out);
  step(stepKind.p2mRead, g);
  let level = ROOT_LEVEL;
  let slot = load(slots, d.r.p2mRoot * SLOTS_PER_TABLE + tableOffset(g, level));
  while (slot !== 0 && level > 0 && (slotLow(slot) & SLOT_SP) === 0) {
    level--;
    slot = load(slots, slotFrame(slot) * SLOTS_PER_TABLE + tableOffset(g, level));
  }
  const order = levelOrder(level);
  if (slot === 0) return absent(out, order);
  const low = slotLow(slot);
  const frame = slotFrame(slot);
  out.type = slotType(low);
  out.access = slotAccess(low);
  out.order = order;
  const framed = out.type !== p2mType.populateOnDemand && frame !== INVALID_MFN;
  out.mfn = (framed ? frame + (g % 2 ** order) : INVALID_MFN) as Mfn;
  return out.mfn;
}
