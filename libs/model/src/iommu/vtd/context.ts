// Context entries of VT-d: which tables a device walks and under which domain id. An update replaces the whole entry in one
// store, directly from the old domain's to the new one's, so that a device with reserved pages never finds nothing
// (XSA-400); then the context and everything cached under the old id is invalidated. pcidevs lock held.
import type { Domain } from '../../domain/domain.ts';
import type { Host } from '../../host.ts';
import { errno } from '../../hypercall/errno.ts';
import { ROOT_LEVEL, slotFrame } from '../../p2m/entry.ts';
import { publish } from '../../shared-memory/slots.ts';
import { step, stepKind } from '../../shared-memory/step.ts';
import type { TableIndex } from '../../shared-memory/table-pages.ts';
import { contextDid, contextPresent, contextType, makeContext } from '../context-entry.ts';
import type { Unit } from '../iommu-state.ts';
import { allocIoTable } from '../table-pages.ts';
import { isPresent, linkTable } from './entry.ts';
import { didOf, invalidateContext } from './invalidation.ts';
import { ensureRoot } from './second-level.ts';

/** Root of the domain's tables as a unit of that many levels must enter them (XSA-390); 0: no memory. */
function rootFor(h: Host, d: Domain, levels: number): TableIndex | 0 {
  if (d.has('hapPtShare')) return skipLevels(h, d.r.p2mRoot as TableIndex, levels, null);
  d.locks.iommuMapping.lock();
  const root = ensureRoot(h, d);
  const entry = root === 0 ? 0 : skipLevels(h, root, levels, d);
  d.locks.iommuMapping.unlock();
  return entry;
}

/** Units of fewer levels start below the top, at the tables of the lowest addresses, which are made if `d` is given. */
function skipLevels(h: Host, root: TableIndex, levels: number, d: Domain | null): TableIndex | 0 {
  let table = root;
  for (let level = ROOT_LEVEL; level >= levels; level--) {
    const slot = h.tables.read(table, 0);
    if (isPresent(slot)) {
      table = slotFrame(slot) as TableIndex;
      continue;
    }
    const child = d ? allocIoTable(h, d.slot) : 0;
    if (!d || child === 0 || linkTable(h, table * 512, child) !== 0) return 0;
    d.r.iommuTables++;
    table = child;
  }
  return table;
}

/** One atomic update of a device's entry, under the unit's context lock. 0, or a negative errno without effect. */
function replace(h: Host, unit: Unit, device: number, fresh: number): number {
  const { contexts } = h.iommu;
  unit.context.lock();
  try {
    const failed = step(stepKind.ctxWrite, device);
    if (failed !== 0) return -failed;
    const old = contexts[device] as number;
    publish();
    contexts[device] = fresh;
    if (fresh !== 0) unit.roots[(h.iommu.device(device).sbdf >>> 8) & 0xff] = 1;
    // An entry that was absent is cached by nobody, unless the unit caches absence (under id 0).
    if (contextPresent(old)) invalidateContext(h, unit, device, contextDid(old));
    else if (unit.config.cachingMode) invalidateContext(h, unit, device, 0);
    return 0;
  } finally {
    unit.context.unlock();
  }
}

/** The device walks the tables of `d` from now on. 0, -ENOMEM, or the error of the write; nothing changed then. */
export function vtdContextSet(h: Host, d: Domain, device: number): number {
  const unit = h.iommu.unitOf(device);
  const { levels } = unit.config;
  const root = rootFor(h, d, levels);
  if (root === 0) return -errno.ENOMEM;
  const entry = makeContext({
    type: contextType.multiLevel,
    levels,
    shared: d.has('hapPtShare'),
    did: didOf(unit, d.domid),
    root,
  });
  return replace(h, unit, device, entry);
}

/** The device walks private tables (quarantine) under its own id. `root` has as many levels as its unit. */
export function vtdContextSetPrivate(h: Host, device: number, root: TableIndex, pseudoDomid: number): number {
  const unit = h.iommu.unitOf(device);
  const entry = makeContext({
    type: contextType.multiLevel,
    levels: unit.config.levels,
    shared: false,
    did: didOf(unit, pseudoDomid),
    root,
  });
  return replace(h, unit, device, entry);
}

/** Every request of the device faults with reason 2. */
export const vtdContextClear = (h: Host, device: number): number => replace(h, h.iommu.unitOf(device), device, 0);
