// The hardware walk of second-level tables, separate or shared with EPT (both put R, W and SP in the same places). Pure and
// short: it is the hot loop of every IOTLB miss. It reads live slots without a lock, as hardware does, and knows nothing of
// caches, faults to log or owners.
import { load, type Slots } from '../shared-memory/slots.ts';

export const WALK_READ = 1;
export const WALK_WRITE = 2;
/** Fault reasons that a walk can find (VT-d). There is no "not present": an absent page is refused as unreadable or unwritable. */
export const REASON_BEYOND_WIDTH = 4;
export const REASON_NO_WRITE = 5;
export const REASON_NO_READ = 6;

const SP = 8;
/** In the answer, bits 13:12 are the level of the leaf. */
const LEVEL_BITS = 0x3000;

/**
 * By-product of the last walk of this thread: the tables that a paging-structure cache would keep. `table` is the table of
 * the 4K leaf (0: the walk ended above it), `directory` the one above (0: not walked).
 */
export const walked = { table: 0, directory: 0 };

export const walkLevel = (leaf: number): number => (leaf >> 12) & 3;

const refused = (needed: number): number => -(needed === WALK_WRITE ? REASON_NO_WRITE : REASON_NO_READ);

function superpage(slot: number, level: number, offset: number, needed: number): number {
  if ((slot & needed) === 0) return refused(needed);
  return slot - (slot & LEVEL_BITS) + level * 4096 + offset * 65536;
}

/**
 * Translates `dfn` from table `root` (`levels` of tables, the root included; higher bits of dfn are the caller's to check).
 * Answers the leaf as a 4K slot (frame with the superpage offset added, low bits of the leaf, its level in bits 13:12), or
 * minus the fault reason.
 */
export function walkTables(slots: Slots, root: number, dfn: number, needed: number, levels: number): number {
  const low = dfn & 0x3ffff;
  walked.table = 0;
  walked.directory = 0;
  let base = root << 9;
  if (levels > 2) {
    const high = Math.floor(dfn / 0x40000);
    if (levels > 3) {
      const top = load(slots, base + ((high >> 9) & 511));
      if ((top & 3) === 0) return refused(needed);
      base = ((top / 65536) | 0) << 9;
    }
    const upper = load(slots, base + (high & 511));
    if ((upper & 3) === 0) return refused(needed);
    if ((upper & SP) !== 0) return superpage(upper, 2, low, needed);
    base = ((upper / 65536) | 0) << 9;
  }
  if (levels > 1) {
    walked.directory = base >>> 9;
    const middle = load(slots, base + (low >> 9));
    if ((middle & 3) === 0) return refused(needed);
    if ((middle & SP) !== 0) return superpage(middle, 1, low & 511, needed);
    base = ((middle / 65536) | 0) << 9;
  }
  walked.table = base >>> 9;
  const leaf = load(slots, base + (low & 511));
  if ((leaf & needed) === 0) return refused(needed);
  return (leaf & LEVEL_BITS) === 0 ? leaf : leaf - (leaf & LEVEL_BITS);
}

/** Does the address fit the width of so many levels? */
export const withinWidth = (dfn: number, levels: number): boolean => dfn < 2 ** (9 * levels);
