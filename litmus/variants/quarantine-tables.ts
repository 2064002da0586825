// The tables of a quarantined device as before XSA-445: built for four levels, whatever its unit walks.
import type { World } from '#explore/world';
import { allocAnonymous } from '#model/domain/memory';
import type { Mfn, Sbdf } from '#model/frames/addresses';
import { allocIoTable } from '#model/iommu/table-pages';
import { SLOT_LENT, SLOT_PRESENT } from '#model/iommu/vtd/entry';
import { makeSlot } from '#model/p2m/entry';
import { SLOTS_PER_TABLE, type TableIndex } from '#model/shared-memory/table-pages';

const LEVELS = 4;

/** Every entry of every level leads to the scratch page, four levels down. */
export function buildFourLevels(w: World, sbdf: Sbdf): void {
  const { host } = w;
  const { iommu, tables } = host;
  const nobody = host.config.maxDomains;
  const scratch = allocAnonymous(host) as Mfn;
  iommu.scratch[0] = scratch + 1;
  let below = makeSlot(scratch, SLOT_PRESENT | SLOT_LENT);
  for (let level = 0; level < LEVELS; level++) {
    const table = allocIoTable(host, nobody) as TableIndex;
    tables.slots.fill(below, table * SLOTS_PER_TABLE, (table + 1) * SLOTS_PER_TABLE);
    if (level < LEVELS - 1) iommu.scratch[1 + level] = table;
    else iommu.quarantineRoots[iommu.deviceIndex(sbdf)] = table;
    below = makeSlot(table, SLOT_PRESENT);
  }
}
