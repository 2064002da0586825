// Contiguity markers: each entry of a second-level table carries, in bits 7:4 that hardware ignores, the log2 of the
// contiguous run that starts at it (at most ctz(index), entry 0 at most 9). So the moment a table becomes one whole
// superpage, or wholly empty, is seen in O(9) steps (as Xen's pt-contig-markers.h). Caller holds the domain's mapping lock.
import { load, type Slots, store } from '../shared-memory/slots.ts';

export const entryKind = { absent: 0, leaf: 1, table: 2 } as const;
export type EntryKind = (typeof entryKind)[keyof typeof entryKind];

const SHIFT = 4;
const MASK = 15 << SHIFT;
/** 2^9 entries: a whole table. */
const WHOLE = 9;

export const markerOf = (slot: number): number => (slot & MASK) >> SHIFT;
export const withoutMarker = (slot: number): number => slot - (slot & MASK);

const ctz = (index: number): number => (index === 0 ? WHOLE : 31 - Math.clz32(index & -index));

/** A fresh table: nothing mapped, which is contiguous. */
export const emptyTable: Float64Array = Float64Array.from({ length: 512 }, (_, index) => ctz(index) << SHIFT);

function setMarker(slots: Slots, at: number, value: number): void {
  const slot = load(slots, at);
  const next = slot - (slot & MASK) + (value << SHIFT);
  if (next !== slot) store(slots, at, next);
}

/**
 * Entry `index` of the table at `base` (leaves of `level`) was just stored with marker 0. Repairs the markers; true if the
 * whole table is now one contiguous run, that is, replaceable by one superpage (leaf) or removable (absent).
 */
export function updateMarkers(slots: Slots, base: number, index: number, level: number, kind: EntryKind): boolean {
  // Runs that reached over this entry end here.
  for (let i = index; i !== 0; ) {
    const b = ctz(i);
    i &= ~(1 << b);
    if (markerOf(load(slots, base + i)) <= b) break;
    setMarker(slots, base + i, b);
  }
  if (kind === entryKind.table) return false;
  const own = withoutMarker(load(slots, base + index));
  const step = kind === entryKind.leaf ? 512 ** level * 65536 : 0;
  if (kind === entryKind.leaf && (Math.floor(own / step) & 511) !== index) return false;

  const continues = (other: number, b: number): boolean => {
    const slot = load(slots, base + other);
    return markerOf(slot) === b && withoutMarker(slot) === own + (other - index) * step;
  };
  // Grow upwards as far as the alignment of the entry goes, then join with lower neighbours.
  let at = index;
  let b = 0;
  while (b < WHOLE && (index & (1 << b)) === 0 && continues(index | (1 << b), b)) b++;
  for (;;) {
    setMarker(slots, base + at, b);
    if (b === WHOLE) return true;
    if (!continues(at ^ (1 << b), b)) return false;
    at &= ~(1 << b);
    b++;
  }
}
