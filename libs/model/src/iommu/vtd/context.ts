// Context entries of VT-d: which tables a device walks and under which domain id. An update replaces a whole entry in one
// store, directly from the old domain's to the new one's, so that a device with reserved pages never finds nothing
// (XSA-400); then the context and everything cached under the old id is invalidated. Which entries belong to a function is
// its kind's matter (as domain_context_mapping): bridges have none, conventional PCI behind a bridge has the bridge's too.
// pcidevs lock held.
import type { Domain } from '../../domain/domain.ts';
import type { Host } from '../../host.ts';
import { errno } from '../../hypercall/errno.ts';
import { ROOT_LEVEL, slotFrame } from '../../p2m/entry.ts';
import { publish } from '../../shared-memory/slots.ts';
import { step, stepKind } from '../../shared-memory/step.ts';
import type { TableIndex } from '../../shared-memory/table-pages.ts';
import { contextDid, contextPresent, contextType, makeContext } from '../context-entry.ts';
import { deviceTlb } from '../device-tlb.ts';
import type { Unit } from '../iommu-state.ts';
import { regionsOf } from '../regions-of.ts';
import { kindOf } from '../requesters.ts';
import { allocIoTable } from '../table-pages.ts';
import { didOf, dropDid, takeDid } from './domain-ids.ts';
import { isPresent, linkTable } from './entry.ts';
import { invalidateContext } from './invalidation.ts';
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

/** One atomic update of a requester's entry, under the unit's context lock. 0, or a negative errno without effect. */
function replace(h: Host, unit: Unit, requester: number, fresh: number): number {
  const { contexts } = h.iommu;
  unit.context.lock();
  try {
    const failed = step(stepKind.ctxWrite, requester);
    if (failed !== 0) return -failed;
    const old = contexts[requester] as number;
    publish();
    contexts[requester] = fresh;
    if (fresh !== 0) unit.roots[(h.iommu.requesters.at(requester).sbdf >>> 8) & 0xff] = 1;
    // An entry that was absent is cached by nobody, unless the unit caches absence (under id 0).
    if (contextPresent(old)) invalidateContext(h, unit, requester, contextDid(old));
    else if (unit.config.cachingMode) invalidateContext(h, unit, requester, 0);
    return 0;
  } finally {
    unit.context.unlock();
  }
}

/** All entries or none: those already written get their old value back when one fails. */
function replaceAll(h: Host, unit: Unit, requesters: readonly number[], fresh: number): number {
  const before = requesters.map((requester) => h.iommu.contexts[requester] as number);
  for (const [i, requester] of requesters.entries()) {
    const rc = replace(h, unit, requester, fresh);
    if (rc === 0) continue;
    for (let j = i - 1; j >= 0; j--) replace(h, unit, requesters[j] as number, before[j] as number);
    return rc;
  }
  return 0;
}

/** The requesters whose entries change with a function's: none for bridges, the bridge's too for conventional PCI. */
function entriesOf(h: Host, device: number, fn: number): readonly number[] {
  switch (kindOf(h.iommu.device(device))) {
    case 'pcie':
      return [fn];
    case 'pci':
      return [fn, ...h.iommu.requesters.aliases(device)];
    default:
      return [];
  }
}

/**
 * A bridge's entry serves all devices behind it, so one of them with reserved pages cannot change its owner: the others
 * would lose theirs.
 */
function isStuck(h: Host, device: number, fn: number): boolean {
  const { iommu } = h;
  return (
    iommu.requesters.aliases(device).length > 0 &&
    contextPresent(iommu.contexts[fn] as number) &&
    regionsOf(h, device).length > 0
  );
}

/** Writes the entries of one function. `domid` is that of the tables; -EBUSY: the unit has no domain id left for it. */
function setEntries(
  h: Host,
  device: number,
  fn: number,
  domid: number,
  tables: { readonly shared: boolean; readonly root: TableIndex },
): number {
  const unit = h.iommu.unitOf(device);
  const requesters = entriesOf(h, device, fn);
  if (requesters.length === 0) return 0;
  unit.context.lock();
  const did = takeDid(unit, domid);
  unit.context.unlock();
  if (did < 0) {
    h.platform.printk('[VT-D]IOMMU: no free domain id');
    return did;
  }
  const type = deviceTlb(h, device) === null ? contextType.multiLevel : contextType.multiLevelAts;
  const rc = replaceAll(h, unit, requesters, makeContext({ type, levels: unit.config.levels, did, ...tables }));
  if (rc !== 0 && !isUsed(h, unit, did)) dropDid(unit, domid);
  return rc;
}

/** Does any entry of the unit name the domain id? */
const isUsed = (h: Host, unit: Unit, did: number): boolean =>
  h.iommu.requesters.all.some(({ index, unit: of }) => {
    const entry = h.iommu.contexts[index] as number;
    return of === unit.index && contextPresent(entry) && contextDid(entry) === did;
  });

/**
 * The function `fn` of the device (its own requester or a phantom's) walks the tables of `d` from now on. 0; -ENOMEM; -EBUSY
 * (domain ids); -EPERM: a host bridge for a guest; -EOPNOTSUPP: see isStuck; or the error of a write. Nothing changed then.
 */
export function vtdContextSet(h: Host, d: Domain, device: number, fn: number): number {
  if (kindOf(h.iommu.device(device)) === 'host-bridge') return d.isHardware ? 0 : -errno.EPERM;
  if (h.iommu.ownerOf(device) !== d.domid && isStuck(h, device, fn)) return -errno.EOPNOTSUPP;
  const root = rootFor(h, d, h.iommu.unitOf(device).config.levels);
  if (root === 0) return -errno.ENOMEM;
  return setEntries(h, device, fn, d.domid, { shared: d.has('hapPtShare'), root });
}

/** The function walks private tables (quarantine) under its own id. `root` has as many levels as its unit. */
export function vtdContextSetPrivate(
  h: Host,
  device: number,
  fn: number,
  root: TableIndex,
  pseudoDomid: number,
): number {
  if (isStuck(h, device, fn)) return -errno.EOPNOTSUPP;
  return setEntries(h, device, fn, pseudoDomid, { shared: false, root });
}

/** Every request of the function faults with reason 2. */
export const vtdContextClear = (h: Host, device: number, fn: number): number =>
  replaceAll(h, h.iommu.unitOf(device), entriesOf(h, device, fn), 0);

/** A function left the tables of `domid`: its domain id on that unit is free once no entry there names it. */
export function vtdReleaseId(h: Host, device: number, domid: number): void {
  const unit = h.iommu.unitOf(device);
  if (unit.didOwners.length === 0) return;
  const did = didOf(unit, domid);
  if (did >= 0 && !isUsed(h, unit, did)) dropDid(unit, domid);
}
