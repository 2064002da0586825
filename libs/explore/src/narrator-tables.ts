// Changes of page tables in words: which domain's, which page of it, the entry before and after.
import { INVALID_MFN } from '#model/frames/addresses';
import type { Host } from '#model/host';
import { SLOT_SP, slotFrame, slotLow, slotType } from '#model/p2m/entry';
import { p2mTypeName } from '#model/p2m/types';
import { SLOTS_PER_TABLE, type TableIndex, tableUse } from '#model/shared-memory/table-pages';

const ROOT_LEVEL = 3;
const DEVICE_RIGHTS = 3;
const RIGHTS = 7;
/** More entries of one table than this are told as one. */
const SINGLE = 3;
/** Software's bits beside an I/O entry: contiguity marker, "not the domain's own". */
const IO_VISIBLE = ~0x1f0;

interface Place {
  readonly of: string;
  readonly kind: 'p2m' | 'io';
  readonly level: number;
  readonly base: number;
}

const hex = (n: number): string => n.toString(16);

/** Where each table page hangs. */
function places(h: Host): Map<number, Place> {
  const found = new Map<number, Place>();
  const walk = (table: number, place: Place): void => {
    if (table === 0 || found.has(table)) return;
    found.set(table, place);
    if (place.level === 0) return;
    for (let i = 0; i < SLOTS_PER_TABLE; i++) {
      const slot = h.tables.read(table as TableIndex, i);
      const present = (slotLow(slot) & (place.kind === 'p2m' ? RIGHTS : DEVICE_RIGHTS)) !== 0;
      if (!present || (slotLow(slot) & SLOT_SP) !== 0) continue;
      walk(slotFrame(slot), { ...place, level: place.level - 1, base: place.base + i * 512 ** place.level });
    }
  };
  for (const d of h.allDomains()) {
    walk(d.r.p2mRoot, { of: `d${d.domid}`, kind: 'p2m', level: ROOT_LEVEL, base: 0 });
    walk(d.r.iommuRoot, { of: `d${d.domid}`, kind: 'io', level: ROOT_LEVEL, base: 0 });
  }
  return found;
}

function entryText(slot: number, place: Place): string {
  const low = slotLow(slot);
  const size = place.level === 0 ? '' : place.level === 1 ? ' (2M)' : ' (1G)';
  const leaf = place.level === 0 || (low & SLOT_SP) !== 0;
  const rights = `${(low & 1) !== 0 ? 'r' : ''}${(low & 2) !== 0 ? 'w' : ''}`;
  if (place.kind === 'io') {
    if ((low & DEVICE_RIGHTS) === 0) return 'absent';
    return leaf ? `mfn ${hex(slotFrame(slot))} ${rights}${size}` : `table ${slotFrame(slot)}`;
  }
  if (slot === 0) return 'empty';
  if (!leaf) return `table ${slotFrame(slot)}`;
  const frame = slotFrame(slot) === INVALID_MFN ? 'no frame' : `mfn ${hex(slotFrame(slot))}`;
  return `${p2mTypeName(slotType(low))} ${frame}${size}`;
}

export function tableChanges(now: Host, before: Host): string[] {
  const changed = new Map<number, number[]>();
  const [a, b] = [before.tables.slots, now.tables.slots];
  const end = Math.max(before.tables.slotsEverUsed, now.tables.slotsEverUsed);
  for (let i = 0; i < end; i++) {
    if (a[i] === b[i]) continue;
    const page = Math.floor(i / SLOTS_PER_TABLE);
    const list = changed.get(page);
    if (list === undefined) changed.set(page, [i]);
    else list.push(i);
  }
  if (changed.size === 0) return [];
  const [old, fresh] = [places(before), places(now)];
  return [...changed].flatMap(([page, slots]) =>
    pageChanges(now, before, page, slots, fresh.get(page) ?? old.get(page)),
  );
}

function pageChanges(
  now: Host,
  before: Host,
  page: number,
  slots: readonly number[],
  place: Place | undefined,
): string[] {
  if (place === undefined) {
    const state = now.tables.useOf(page as TableIndex) === tableUse.free ? 'free' : 'not linked yet';
    return [`table ${page} (${state}): ${slots.length} ${slots.length === 1 ? 'entry' : 'entries'} written`];
  }
  const name = `${place.kind === 'p2m' ? 'p2m' : 'I/O table'} of ${place.of}`;
  const told: string[] = [];
  for (const i of slots) {
    const [from, to] = [before.tables.slots[i] as number, now.tables.slots[i] as number];
    if (
      place.kind === 'io' &&
      (slotLow(from) & IO_VISIBLE) === (slotLow(to) & IO_VISIBLE) &&
      slotFrame(from) === slotFrame(to)
    )
      continue;
    const frame = hex(place.base + (i % SLOTS_PER_TABLE) * 512 ** place.level);
    told.push(
      `${name}, ${place.kind === 'p2m' ? 'gfn' : 'dfn'} ${frame}: ${entryText(from, place)} → ${entryText(to, place)}`,
    );
  }
  return told.length > SINGLE ? [`${told[0]}`, `${name}: ${told.length - 1} more entries`] : told;
}
