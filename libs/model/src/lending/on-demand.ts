// Policy `lend.tables: on-demand`, a mistake to look at: a window of 4K pages begins with 2M entries, a 2M run is lent as one, and a
// table of 4K entries is made when a single page is lent or revoked. Lending may fail for want of one; revoking may not, and does.
// Borrower's p2m lock held.
import type { Domain } from '../domain/domain.ts';
import { INVALID_MFN, type Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { SLOT_SP, slotFrame, slotLow } from '../p2m/entry.ts';
import { eptSetEntry } from '../p2m/set-entry.ts';
import { p2mAccess, p2mType } from '../p2m/types.ts';
import { load } from '../shared-memory/slots.ts';
import { isAbsentSlot, isLentSlot, leafIndex, lentSlot, writeSlot } from './lent-leaf.ts';
import type { LendWindow } from './window.ts';

export const LARGE = 512;

export const isOnDemand = (h: Host, { order }: Pick<LendWindow, 'order'>): boolean =>
  h.config.policies.lendTables === 'on-demand' && order === 0;

/** Order of the entry that a window is opened with at `g`: 9 where a 2M run of it begins, 0 outside of such runs, -1 inside one. */
export function largeOrder({ first, last }: Pick<LendWindow, 'first' | 'last'>, g: number): number {
  const run = g - (g % LARGE);
  if (run < first || run + LARGE - 1 > last) return 0;
  return g === run ? 9 : -1;
}

export const framesOfLarge = (slot: number): Mfn[] =>
  Array.from({ length: LARGE }, (_, i) => (slotFrame(slot) + i) as Mfn); // a 2M run

const isLarge = (slot: number): boolean => (slotLow(slot) & SLOT_SP) !== 0 && (isLentSlot(slot) || isAbsentSlot(slot));

/** Visits the 2M entries of lent memory that overlap [first, last]; `whole`: those that lie inside. */
export function eachLarge(
  h: Host,
  d: Domain,
  first: number,
  last: number,
  visit: (g: number, index: number, slot: number, whole: boolean) => void,
): void {
  for (let g = first - (first % LARGE); g <= last; g += LARGE) {
    const index = leafIndex(h, d, g, 1);
    const slot = index < 0 ? 0 : load(h.tables.slots, index);
    if (slot !== 0 && isLarge(slot)) visit(g, index, slot, g >= first && g + LARGE - 1 <= last);
  }
}

/** Makes 4K entries where [first, last] cuts through a 2M entry of what is lent: 0 or -ENOMEM. */
export function splitAtEdges(h: Host, d: Domain, first: number, last: number): number {
  let rc = 0;
  eachLarge(h, d, first, last, (g, _index, slot, whole) => {
    if (whole || rc !== 0 || !isLentSlot(slot)) return;
    const at = Math.max(g, first);
    const m = (slotFrame(slot) + (at - g)) as Mfn; // inside the 2M run
    rc = eptSetEntry(h, d, at, m, 0, p2mType.lent, p2mAccess.rw);
  });
  return rc;
}

const isRun = (frames: readonly Mfn[], from: number): boolean => {
  const m = frames[from] as Mfn; // LARGE of them are there
  return m % LARGE === 0 && Array.from({ length: LARGE }, (_, i) => i).every((i) => frames[from + i] === m + i);
};

/**
 * Before single pages are lent at `at`: whole 2M runs are lent as one (`hold` takes their references), and where single pages go there
 * are 4K entries. 0; -EEXIST: a 2M run is lent there; -ENOMEM with nothing lent.
 */
export function lendLarge(
  h: Host,
  d: Domain,
  at: number,
  frames: readonly Mfn[],
  readonly: boolean,
  hold: (m: Mfn, pages: number) => void,
): number {
  const last = at + frames.length - 1;
  const runs: { index: number; m: Mfn }[] = [];
  const singles: number[] = [];
  let taken = false;
  eachLarge(h, d, at, last, (g, index, slot, whole) => {
    if (isLentSlot(slot)) taken = true;
    else if (whole && isRun(frames, g - at))
      runs.push({ index, m: frames[g - at] as Mfn }); // whole: inside the list
    else singles.push(Math.max(g, at));
  });
  if (taken) return -errno.EEXIST;
  for (const g of singles) {
    const rc = eptSetEntry(h, d, g, INVALID_MFN, 0, p2mType.lentAbsent, p2mAccess.rwx);
    if (rc !== 0) return rc;
  }
  for (const { index, m } of runs) {
    hold(m, LARGE);
    writeSlot(h, index, lentSlot(m, 1, readonly));
  }
  return 0;
}
