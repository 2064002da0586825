// What stands behind one address of one device, link by link: whose the device is, what its unit's context entry says, whether
// the IOTLB has the page, each level of the walk, and what the p2m holds. A look without a lock; it draws no conclusion beyond the
// model's own sentence.
import { INVALID_MFN } from '#model/frames/addresses';
import type { Host } from '#model/host';
import {
  contextDid,
  contextLevels,
  contextPresent,
  contextRoot,
  contextShared,
  contextTypeOf,
} from '#model/iommu/context-entry';
import { classifyFault } from '#model/iommu/fault-cause';
import { bank } from '#model/iommu/translation-cache';
import { levelOrder, SLOT_R, SLOT_SP, SLOT_W, slotFrame, slotLow, slotType } from '#model/p2m/entry';
import { p2mTypeName } from '#model/p2m/types';
import { load } from '#model/shared-memory/slots';
import type { WalkStep, Why } from '#wire/hv-messages';

const SLOTS = 512;
const contextTypes = ['multi-level', 'multi-level with device TLB', 'pass-through', 'reserved'] as const;

/** null: there is no such device. */
export function whyOf(h: Host, sbdf: number, dfn: number): Why | null {
  const device = h.iommu.deviceIndex(sbdf);
  const config = h.config.devices[device];
  if (!config) return null;
  const unit = h.iommu.unitOf(device);
  const entry = h.iommu.contexts[device] as number; // a device has one
  const present = contextPresent(entry);
  const shared = present && contextShared(entry);
  const { why, ...tables } = classifyFault(h, device, dfn);
  const d = tables.domid < 0 ? null : h.domain(tables.domid);
  const cached = present
    ? ([bank.leaf4k, bank.leaf2m, bank.leaf1g] as const).findIndex(
        (leaves) => unit.cache.lookup(leaves, contextDid(entry), dfn) >= 0,
      )
    : -1;
  return {
    sbdf,
    device: config.name,
    dfn,
    domid: tables.domid,
    domain: d?.name ?? '',
    unit: unit.index,
    context: present
      ? {
          type: contextTypes[contextTypeOf(entry)] ?? 'reserved',
          levels: contextLevels(entry),
          did: contextDid(entry),
          root: contextRoot(entry),
          shared,
        }
      : null,
    iotlbOrder: cached < 0 ? -1 : levelOrder(cached),
    ioWalk: present ? walk(h, contextRoot(entry), dfn, contextLevels(entry), shared) : [],
    p2mWalk: d && d.r.p2mRoot !== 0 ? walk(h, d.r.p2mRoot, dfn, 4, true) : [],
    p2mType: tables.p2mType,
    mfn: tables.mfn,
    order: tables.order,
    iommuEntry: tables.iommuEntry,
    sharedTables: tables.sharedTables,
    sentence: why,
    changes: [],
  };
}

/** From the root down to a leaf, or to where nothing is. */
function walk(h: Host, root: number, frame: number, levels: number, typed: boolean): WalkStep[] {
  const steps: WalkStep[] = [];
  let table = root;
  for (let level = levels - 1; level >= 0; level--) {
    const index = Math.floor(frame / 2 ** levelOrder(level)) % SLOTS;
    const slot = load(h.tables.slots, table * SLOTS + index);
    const low = slotLow(slot);
    // Devices' own tables keep markers in entries that map nothing.
    const empty = slot === 0 || (!typed && (low & (SLOT_R | SLOT_W)) === 0);
    const leaf = !empty && (level === 0 || (low & SLOT_SP) !== 0);
    const target = slotFrame(slot);
    steps.push({
      level: level + 1,
      table,
      index,
      kind: empty ? 'absent' : leaf ? 'leaf' : 'table',
      target: empty || target === INVALID_MFN ? -1 : target,
      read: (low & SLOT_R) !== 0,
      write: (low & SLOT_W) !== 0,
      type: leaf && typed ? p2mTypeName(slotType(low)) : '',
    });
    if (empty || leaf) break;
    table = target;
  }
  return steps;
}
