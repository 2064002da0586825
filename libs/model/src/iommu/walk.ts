// The hardware walk of second-level tables, separate or shared with EPT (both put R, W and SP in the same places). Pure and
// short: it is the hot loop of every IOTLB miss. It reads live slots without a lock, as hardware does, and knows nothing of
// caches, faults to log or owners.
import { load, type Slots } from '../shared-memory/slots.ts';

export const WALK_READ = 1;
export const WALK_WRITE = 2;
/** Fault reasons that a walk can find (VT-d). There is no "not present": an absent page is refused as unreadable or unwritable. */
export const REASON_NO_WRITE = 5;
export const REASON_NO_READ = 6;

const SP = 8;
/** Present, readable and writable, no superpage: a table; the low bits that tell it from a leaf and from nothing. */
const KIND = 11;
const TABLE = 3;
/** In the answer, bits 13:12 are the level of the leaf. */
const LEVEL_BITS = 0x3000;

export const walkLevel = (leaf: number): number => (leaf >> 12) & 3;
/** A walk's answer as a 4K leaf. (The mask is not exported: V8 folds a constant only where it is the module's own.) */
export const withoutLevel = (leaf: number): number => leaf - (leaf & LEVEL_BITS);

const refused = (needed: number): number => (needed === WALK_WRITE ? -REASON_NO_WRITE : -REASON_NO_READ);

/** Any walk, level by level. */
function walkByLevel(slots: Slots, root: number, dfn: number, needed: number, levels: number): number {
  let table = root;
  for (let level = levels - 1; ; level--) {
    const span = 512 ** level;
    const slot = load(slots, (table << 9) + (Math.floor(dfn / span) % 512));
    if (level > 0 && (slot & 3) !== 0 && (slot & SP) === 0) {
      table = (slot / 65536) | 0;
      continue;
    }
    if ((slot & needed) === 0) return refused(needed);
    return slot - (slot & LEVEL_BITS) + level * 4096 + (dfn % span) * 65536;
  }
}

/**
 * The commonest walk: four levels down to a 4K leaf with the needed right. Answers its slot, or 0: anything else, ask
 * `walkTables`. It calls nothing and reads the slots itself instead of through `load`: only so small does V8 fold it into a
 * caller's loop and hoist its checks out of it (measured: 36 against 55 to 70 ns a walk on 64 GiB).
 */
export function walkStraight(slots: Slots, root: number, dfn: number, needed: number): number {
  const low = dfn & 0x3ffff;
  const high = (dfn / 0x40000) | 0;
  const top = slots[(root << 9) + (high >> 9)] as number;
  if ((top & KIND) !== TABLE) return 0;
  const upper = slots[(((top / 65536) | 0) << 9) + (high & 511)] as number;
  if ((upper & KIND) !== TABLE) return 0;
  const middle = slots[(((upper / 65536) | 0) << 9) + (low >> 9)] as number;
  if ((middle & KIND) !== TABLE) return 0;
  const leaf = slots[(((middle / 65536) | 0) << 9) + (low & 511)] as number;
  return (leaf & (needed | LEVEL_BITS)) === needed ? leaf : 0;
}

/**
 * Translates `dfn` from table `root` (`levels` of tables, the root included; higher bits of dfn are the caller's to check).
 * Answers the leaf as a 4K slot (frame with the superpage offset added, low bits of the leaf, its level in bits 13:12), or
 * minus the fault reason.
 */
export function walkTables(slots: Slots, root: number, dfn: number, needed: number, levels: number): number {
  const leaf = levels === 4 ? walkStraight(slots, root, dfn, needed) : 0;
  return leaf !== 0 ? leaf : walkByLevel(slots, root, dfn, needed, levels);
}

/**
 * The table of level `level` that the walk of `dfn` goes through (what a paging-structure cache keeps), or 0: it ends above.
 * `levels` as above; level < levels - 1.
 */
export function tableAt(slots: Slots, root: number, dfn: number, levels: number, level: number): number {
  let table = root;
  for (let at = levels - 1; at > level; at--) {
    const slot = load(slots, (table << 9) + (Math.floor(dfn / 512 ** at) % 512));
    if ((slot & KIND) !== TABLE) return 0;
    table = (slot / 65536) | 0;
  }
  return table;
}

/** Does the address fit the width of so many levels? */
export const withinWidth = (dfn: number, levels: number): boolean => dfn < 2 ** (9 * levels);
