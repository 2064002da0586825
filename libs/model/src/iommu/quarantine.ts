// Quarantine: where a device goes that no domain may have (owner DOMID_IO). Mode basic: no context entry, every request
// faults with reason 2; a device with reserved pages gets private tables that map just those, since firmware may go on using
// them (XSA-400). Mode scratch-page: private tables whose every other leaf is one zeroed page, so nothing faults. Tables are
// prepared before they are needed, at assignment, because a deassignment must not fail. pcidevs lock held.
import { allocAnonymous } from '../domain/memory.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { makeSlot, SLOT_SP, slotFrame, tableOffset } from '../p2m/entry.ts';
import { store } from '../shared-memory/slots.ts';
import { SLOTS_PER_TABLE, type TableIndex } from '../shared-memory/table-pages.ts';
import { backendOf } from './backend.ts';
import { regionsOf } from './regions-of.ts';
import { allocIoTable, freeIoTable } from './table-pages.ts';
import { FIRST_QUARANTINE_DID } from './vtd/domain-ids.ts';
import { isPresent, SLOT_LENT, SLOT_PRESENT } from './vtd/entry.ts';

const LAST_DID = 0xffff;

/** Tables of quarantined devices count as nobody's: the slot after the last domain's. */
const slotOfNobody = (h: Host): number => h.config.maxDomains;

/** Does the device need tables of its own there, rather than no context at all? */
function needsTables(h: Host, device: number): boolean {
  return h.config.quarantine === 'scratch-page' || regionsOf(h, device).length > 0;
}

/** Builds the device's private tables if it will need them. 0, -ENOMEM, -ENOSPC: no domain id left. */
export function quarantineInit(h: Host, device: number): number {
  const { quarantineRoots } = h.iommu;
  if (h.config.quarantine === 'none' || quarantineRoots[device] !== 0 || !needsTables(h, device)) return 0;
  if (quarantineDomid(device) > LAST_DID) return -errno.ENOSPC;
  const { levels } = h.iommu.unitOf(device).config;
  const root = allocIoTable(h, slotOfNobody(h));
  if (root === 0) return -errno.ENOMEM;
  const scratch = h.config.quarantine === 'scratch-page';
  if (!mapReserved(h, device, root, levels) || (scratch && !scratchTables(h, levels))) {
    freePrivateTables(h, root, levels - 1);
    return -errno.ENOMEM;
  }
  if (scratch) fillWithScratch(h, root, levels - 1);
  quarantineRoots[device] = root;
  return 0;
}

/** Never linked into a context: freed at once. */
function freePrivateTables(h: Host, table: TableIndex, level: number): void {
  for (let i = 0; level > 0 && i < SLOTS_PER_TABLE; i++) {
    const slot = h.tables.read(table, i);
    if (isPresent(slot)) freePrivateTables(h, slotFrame(slot) as TableIndex, level - 1);
  }
  freeIoTable(h, table);
}

function mapReserved(h: Host, device: number, root: TableIndex, levels: number): boolean {
  for (const region of regionsOf(h, device)) {
    for (let pfn = region.startPfn; pfn <= region.endPfn; pfn++) if (!mapPrivately(h, root, levels, pfn)) return false;
  }
  return true;
}

/** 1:1, writable. The tables are not linked yet: plain stores. */
function mapPrivately(h: Host, root: TableIndex, levels: number, pfn: number): boolean {
  let table: number = root;
  for (let level = levels - 1; level > 0; level--) {
    const index = table * SLOTS_PER_TABLE + tableOffset(pfn, level);
    const slot = h.tables.slots[index] as number;
    if (isPresent(slot)) table = slotFrame(slot);
    else {
      table = allocIoTable(h, slotOfNobody(h));
      if (table === 0) return false;
      store(h.tables.slots, index, makeSlot(table, SLOT_PRESENT));
    }
  }
  store(h.tables.slots, table * SLOTS_PER_TABLE + tableOffset(pfn, 0), makeSlot(pfn, SLOT_PRESENT | SLOT_LENT));
  return true;
}

/** The host's scratch page, and one table per level all of whose entries lead to it. */
function scratchTables(h: Host, levels: number): boolean {
  const { scratch } = h.iommu;
  if (scratch[0] === 0) {
    const m = allocAnonymous(h);
    if (m < 0) return false;
    scratch[0] = m + 1;
  }
  for (let level = 0; level < levels - 1; level++) {
    if (scratch[1 + level] !== 0) continue;
    const table = allocIoTable(h, slotOfNobody(h));
    if (table === 0) return false;
    h.tables.slots.fill(scratchEntry(h, level), table * SLOTS_PER_TABLE, (table + 1) * SLOTS_PER_TABLE);
    scratch[1 + level] = table;
  }
  return true;
}

/** What an entry of a table of `level` holds to lead to the scratch page. */
function scratchEntry(h: Host, level: number): number {
  const { scratch } = h.iommu;
  if (level === 0) return makeSlot((scratch[0] as number) - 1, SLOT_PRESENT | SLOT_LENT);
  return makeSlot(scratch[level] as number, SLOT_PRESENT);
}

/** Every null entry leads to the scratch page, at the depth at which it is found (XSA-445). */
function fillWithScratch(h: Host, table: number, level: number): void {
  for (let i = 0; i < SLOTS_PER_TABLE; i++) {
    const index = table * SLOTS_PER_TABLE + i;
    const slot = h.tables.slots[index] as number;
    if (!isPresent(slot)) store(h.tables.slots, index, scratchEntry(h, level));
    else if (level > 0 && (slot & SLOT_SP) === 0) fillWithScratch(h, slotFrame(slot), level - 1);
  }
}

/** The domain id that the device has in quarantine. */
export const quarantineDomid = (device: number): number => FIRST_QUARANTINE_DID + device;

/** The context of one function of the device becomes that of quarantine. 0 or the error of the write. */
export function quarantineContext(h: Host, device: number, fn: number): number {
  const root = h.iommu.quarantineRoots[device] as TableIndex;
  if (root === 0) return backendOf(h).contextClear(h, device, fn);
  // The next user of the scratch page must not read what the last one wrote.
  if (h.config.quarantine === 'scratch-page') Atomics.store(h.frames.tag, (h.iommu.scratch[0] as number) - 1, 0);
  return backendOf(h).contextSetPrivate(h, device, fn, root, quarantineDomid(device));
}
