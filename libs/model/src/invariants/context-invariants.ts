// State invariants of context entries and the tables they lead to: alive, their owner's, entered at the level that the unit walks.
import { formatSbdf } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { contextDid, contextLevels, contextPresent, contextRoot, contextShared } from '../iommu/context-entry.ts';
import { quarantineDomid } from '../iommu/quarantine.ts';
import { domidOfDid } from '../iommu/vtd/domain-ids.ts';
import { isPresent } from '../iommu/vtd/entry.ts';
import { ROOT_LEVEL, SLOT_SP, slotFrame } from '../p2m/entry.ts';
import { type TableIndex, tableUse } from '../shared-memory/table-pages.ts';
import type { Finding } from './findings.ts';
import type { Survey } from './survey.ts';

interface Present {
  readonly id: string;
  readonly entry: number;
  readonly root: TableIndex;
  /** Whose tables they should be: a domain's number, or a quarantined device's. */
  readonly domid: number;
}

function presentContexts(h: Host): Present[] {
  return h.iommu.requesters.all.flatMap(({ index, unit, sbdf }) => {
    const entry = h.iommu.contexts[index] as number;
    const of = h.iommu.units[unit];
    if (!contextPresent(entry) || !of) return [];
    const root = contextRoot(entry) as TableIndex;
    return [{ id: formatSbdf(sbdf), entry, root, domid: domidOfDid(of, contextDid(entry)) }];
  });
}

/** A device walks the tables of whom it belongs to, and those are not free. */
export function noContextPointsToFreedTable({ h }: Survey): Finding[] {
  const found: Finding[] = [];
  for (const { id, root, domid } of presentContexts(h)) {
    const slot = domid >= quarantineDomid(0) ? h.config.maxDomains : h.domain(domid)?.slot;
    if (h.tables.useOf(root) !== tableUse.free && h.tables.domainSlotOf(root) === slot) continue;
    const what = h.tables.useOf(root) === tableUse.free ? 'which is free' : 'which is not its own';
    found.push({
      text: `the context of ${id} leads d${domid} to table ${root}, ${what}`,
      evidence: { requester: id, domid, table: root },
    });
  }
  return found;
}

/** Units of fewer levels enter a domain's tables further down, so that a leaf is found where one is. */
export function ioWalkDepthMatchesTableDepth({ h }: Survey): Finding[] {
  const found: Finding[] = [];
  for (const { id, entry, root, domid } of presentContexts(h)) {
    const d = h.domain(domid);
    const top = d === null ? 0 : contextShared(entry) ? d.r.p2mRoot : d.r.iommuRoot;
    if (top === 0) continue;
    const levels = levelsBelow(h, top, root);
    if (levels === contextLevels(entry)) continue;
    const tree = levels === 0 ? 'which is not at the head of its tables' : `below which there are ${levels}`;
    found.push({
      text: `the context of ${id} makes its unit walk ${contextLevels(entry)} levels of d${domid} from table ${root}, ${tree}`,
      evidence: { requester: id, domid, table: root, levels, walked: contextLevels(entry) },
    });
  }
  return found;
}

/** Levels of the tree from `root` down, which lies on the way from `top` to address 0; 0: it does not. */
function levelsBelow(h: Host, top: number, root: number): number {
  let table = top;
  for (let level = ROOT_LEVEL; level >= 0; level--) {
    if (table === root) return level + 1;
    const slot = h.tables.read(table as TableIndex, 0);
    if (!isPresent(slot) || (slot & SLOT_SP) !== 0) return 0;
    table = slotFrame(slot);
  }
  return 0;
}
