// Reading the p2m (ept_get_entry) and the ways to hold on to what was read. An mfn without a held lock or a page reference
// is stale the moment it is returned; a page reference keeps the *frame*, not the mapping.
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, type Mfn, type Order } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { podDemandPopulate } from '../pod/demand-populate.ts';
import { load } from '../shared-memory/slots.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { SLOTS_PER_TABLE } from '../shared-memory/table-pages.ts';
import { domainCrash } from '../domain/crash.ts';
import { levelOrder, ROOT_LEVEL, SLOT_SP, slotAccess, slotFrame, slotLow, slotType, tableOffset } from './entry.ts';
import { p2mLock, p2mReadLock, p2mReadUnlock, p2mUnlock } from './p2m.ts';
import { isRam, p2mAccess, p2mType } from './types.ts';

/** Look only. */
export const P2M_QUERY = 0;
/** Populate a PoD entry, as a CPU access would. */
export const P2M_ALLOC = 1;

/** What a lookup found; reused by the caller, so it costs nothing. */
export class Leaf {
  mfn: Mfn = INVALID_MFN;
  type: number = p2mType.mmioDm;
  access: number = p2mAccess.n;
  /** The entry covers 2^order gfns. */
  order: Order = 0;
}

/** Anything absent looks like emulated MMIO without rights. */
function absent(out: Leaf, order: Order): Mfn {
  out.mfn = INVALID_MFN;
  out.type = p2mType.mmioDm;
  out.access = p2mAccess.n;
  out.order = order;
  return INVALID_MFN;
}

/**
 * The entry at `g`. With P2M_ALLOC the caller holds the p2m write lock and a PoD entry is populated first; if that fails the
 * result is that of a hole. Without a lock the answer is a peek.
 */
export function getEntry(h: Host, d: Domain, g: number, query: number, out: Leaf): Mfn {
  const { slots } = h.tables;
  if (g > d.r.maxMappedPfn || g < 0) {
    // The largest level that lies wholly above what was ever mapped.
    for (let level = ROOT_LEVEL; level > 0; level--) {
      const first = g - (g % 2 ** levelOrder(level));
      if (first > d.r.maxMappedPfn && level < ROOT_LEVEL) return absent(out, levelOrder(level));
    }
    return absent(out, 0);
  }
  for (;;) {
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
    const type = slotType(low);
    if (type === p2mType.populateOnDemand) {
      if ((query & P2M_ALLOC) === 0) {
        out.mfn = INVALID_MFN;
        out.type = type;
        out.access = slotAccess(low);
        out.order = order;
        return INVALID_MFN;
      }
      if (!podDemandPopulate(h, d, g, order)) return absent(out, order);
      continue;
    }
    const frame = slotFrame(slot);
    out.type = type;
    out.access = slotAccess(low);
    out.order = order;
    out.mfn = (frame === INVALID_MFN ? frame : frame + (g % 2 ** order)) as Mfn;
    return out.mfn;
  }
}

/** get_gfn: looks up and keeps the p2m write lock until putGfn. */
export function getGfn(h: Host, d: Domain, g: number, query: number, out: Leaf): Mfn {
  p2mLock(h, d);
  const m = getEntry(h, d, g, query, out);
  if (out.type === p2mType.ramBroken && (query & P2M_ALLOC) !== 0) {
    domainCrash(h, d, `domain_crash called from p2m.c: d${d.domid} reads broken memory`);
    return absent(out, 0);
  }
  return m;
}

export const putGfn = (h: Host, d: Domain): void => p2mUnlock(h, d);

/**
 * A reference on the frame behind `g`: RAM of the domain itself, or a foreign frame; -1 for anything else (holes, direct
 * MMIO, grants). Fast path under the read lock; PoD goes the slow way under the write lock. The reference must be put.
 */
export function getPageFromGfn(h: Host, d: Domain, g: number, query: number, out: Leaf): Mfn | -1 {
  p2mReadLock(h, d);
  let m: Mfn | -1 = -1;
  try {
    getEntry(h, d, g, P2M_QUERY, out);
    m = refOf(h, d, out);
  } finally {
    p2mReadUnlock(h, d);
  }
  if (m >= 0 || (query & P2M_ALLOC) === 0 || out.type !== p2mType.populateOnDemand) return m;
  getGfn(h, d, g, query, out);
  m = refOf(h, d, out);
  putGfn(h, d);
  return m;
}

function refOf(h: Host, d: Domain, leaf: Leaf): Mfn | -1 {
  if (leaf.mfn === INVALID_MFN || !h.frames.valid(leaf.mfn)) return -1;
  if (isRam(leaf.type)) return h.frames.getPage(leaf.mfn, d.domid) ? leaf.mfn : -1;
  if (leaf.type !== p2mType.mapForeign) return -1;
  const owner = h.frames.ownerOf(leaf.mfn);
  return owner >= 0 && h.frames.getPage(leaf.mfn, owner as typeof d.domid) ? leaf.mfn : -1;
}
