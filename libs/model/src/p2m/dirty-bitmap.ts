// The log-dirty bitmap of a domain: which gfns were written since it was last cleared. A tree like Xen's, of pages out of the
// domain's paging pool, grown where pages get dirty; absent = clean. When the pool is empty a dirty page cannot be recorded:
// that is counted, and reported at the next look.
// A slot of the last level holds 32 bits, where Xen's pages hold 64 in the same place: a leaf covers half as many gfns.
// All functions take the paging lock, which is inside the p2m lock.
import type { Domain } from '../domain/domain.ts';
import type { Host } from '../host.ts';
import { SLOTS_PER_TABLE, type TableIndex } from '../shared-memory/table-pages.ts';
import { p2mAllocTable, p2mFreeTable } from './paging-pool.ts';

const BITS = 32;
/** gfns below one slot of a level: 32, 2^14, 2^23, 2^32. */
const spanOf = (level: number): number => BITS * SLOTS_PER_TABLE ** level;
const TOP = 3;
/** gfns between two preemption checks of a look: one slot of the second level from the top. */
export const DIRTY_SLICE = spanOf(2);

const slotOf = (g: number, level: number): number => Math.floor(g / spanOf(level)) % SLOTS_PER_TABLE;

/** The table of words for `g`, or 0. `grow` makes it; a failure to is counted. */
function wordsOf(h: Host, d: Domain, g: number, grow: boolean): TableIndex | 0 {
  if (d.r.dirtyRoot === 0 && grow) d.r.dirtyRoot = p2mAllocTable(h, d);
  let table = d.r.dirtyRoot as TableIndex | 0;
  for (let level = TOP; level > 0 && table !== 0; level--) {
    let below = h.tables.read(table, slotOf(g, level)) as TableIndex | 0;
    if (below === 0 && grow) {
      below = p2mAllocTable(h, d);
      h.tables.write(table, slotOf(g, level), below);
    }
    table = below;
  }
  if (table === 0 && grow) d.r.dirtyFailedAllocs++;
  return table;
}

/** paging_mark_pfn_dirty for `pages` gfns from `g`. Free when the domain logs nothing. */
export function markDirty(h: Host, d: Domain, g: number, pages: number): void {
  if (d.r.logDirty === 0) return;
  d.locks.paging.lock();
  for (let at = g; at < g + pages; at++) change(h, d, at, true);
  d.locks.paging.unlock();
}

/** The gfn has no page any more (paging_mark_pfn_clean). */
export function markClean(h: Host, d: Domain, g: number, pages: number): void {
  if (d.r.logDirty === 0) return;
  d.locks.paging.lock();
  for (let at = g; at < g + pages; at++) change(h, d, at, false);
  d.locks.paging.unlock();
}

function change(h: Host, d: Domain, g: number, dirty: boolean): void {
  const table = wordsOf(h, d, g, dirty);
  if (table === 0) return;
  const word = h.tables.read(table, slotOf(g, 0));
  const bit = 2 ** (g % BITS);
  if ((Math.floor(word / bit) % 2 === 1) === dirty) return;
  h.tables.write(table, slotOf(g, 0), dirty ? word + bit : word - bit);
  // A look with clean set the count to 0, and may have left bits beyond what was asked for.
  d.r.dirtyCount = Math.max(0, d.r.dirtyCount + (dirty ? 1 : -1));
}

/** Whether a write to `g` is on record. */
export function isDirty(h: Host, d: Domain, g: number): boolean {
  const table = wordsOf(h, d, g, false);
  return table !== 0 && Math.floor(h.tables.read(table, slotOf(g, 0)) / 2 ** (g % BITS)) % 2 === 1;
}

/** Appends the words of gfns [first, end) to `out`, 32 gfns each, and with `clean` forgets them. Paging lock held. */
export function readDirty(h: Host, d: Domain, first: number, end: number, clean: boolean, out: number[] | null): void {
  for (let g = first; g < end; ) {
    const table = wordsOf(h, d, g, false);
    const stop = Math.min(end, g - (g % spanOf(1)) + spanOf(1));
    if (out) for (let at = g; at < stop; at += BITS) out.push(table === 0 ? 0 : h.tables.read(table, slotOf(at, 0)));
    if (table !== 0 && clean) for (let i = 0; i < SLOTS_PER_TABLE; i++) h.tables.write(table, i, 0);
    g = stop;
  }
}

/** All of it goes back to the pool (paging_free_log_dirty_bitmap). */
export function freeDirtyBitmap(h: Host, d: Domain): void {
  d.locks.paging.lock();
  if (d.r.dirtyRoot !== 0) freeBelow(h, d, d.r.dirtyRoot as TableIndex, TOP);
  d.r.dirtyRoot = 0;
  d.r.dirtyCount = 0;
  d.r.dirtyFailedAllocs = 0;
  d.locks.paging.unlock();
}

function freeBelow(h: Host, d: Domain, table: TableIndex, level: number): void {
  for (let i = 0; level > 0 && i < SLOTS_PER_TABLE; i++) {
    const below = h.tables.read(table, i);
    if (below !== 0) freeBelow(h, d, below as TableIndex, level - 1);
  }
  p2mFreeTable(h, d, table);
}

/** Every table of the bitmap: for the survey. */
export function* dirtyTables(h: Host, table: number, level = TOP): Generator<number> {
  if (table === 0) return;
  yield table;
  for (let i = 0; level > 0 && i < SLOTS_PER_TABLE; i++) {
    yield* dirtyTables(h, h.tables.read(table as TableIndex, i), level - 1);
  }
}
