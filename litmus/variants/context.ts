// Context entries written as before XSA-347, XSA-390 and XSA-442: in two halves, with a root that the unit cannot enter, with
// translations of the old owner kept.
import type { World } from '#explore/world';
import type { Domain } from '#model/domain/domain';
import type { Sbdf } from '#model/frames/addresses';
import type { Host } from '#model/host';
import { contextDid, contextLevels, contextRoot, contextType, makeContext } from '#model/iommu/context-entry';
import { changeOwner, currentOwner, leaveUnit, useUnit } from '#model/iommu/device-owner';
import { ofContext } from '#model/iommu/vtd/descriptor';
import { takeDid } from '#model/iommu/vtd/domain-ids';
import { invalidateContext } from '#model/iommu/vtd/invalidation';
import { step, stepKind } from '#model/shared-memory/step';

/** The whole of a device goes to `domid`; `write` makes its context. */
function giveDevice(
  w: World,
  domid: number,
  sbdf: Sbdf,
  write: (to: Domain, device: number, did: number) => void,
): void {
  const { host } = w;
  host.pcidevsLock.lock();
  const device = host.iommu.deviceIndex(sbdf);
  const from = currentOwner(host, device);
  const to = w.domain(domid);
  const unit = host.iommu.unitOf(device);
  useUnit(host, device, to);
  unit.context.lock();
  write(to, device, takeDid(unit, domid));
  unit.context.unlock();
  changeOwner(host, device, from, to);
  if (from !== null) leaveUnit(host, device, from);
  host.pcidevsLock.unlock();
}

function store(h: Host, device: number, entry: number): void {
  step(stepKind.ctxWrite, device);
  h.iommu.contexts[device] = entry;
}

/** XSA-347: the domain id is stored first, while the old tables are still there to be walked; then the tables. */
export function assignInHalves(w: World, domid: number, sbdf: Sbdf): void {
  const { host } = w;
  giveDevice(w, domid, sbdf, (to, device, did) => {
    const old = host.iommu.contexts[device] as number;
    const half = { type: contextType.multiLevel, levels: contextLevels(old), shared: false, did };
    store(host, device, makeContext({ ...half, root: contextRoot(old) }));
    store(host, device, makeContext({ ...half, root: to.r.iommuRoot }));
    invalidateContext(host, host.iommu.unitOf(device), device, contextDid(old));
  });
}

/** XSA-390: shared tables are entered at their top, whatever the unit can walk. */
export function assignAtTheTop(w: World, domid: number, sbdf: Sbdf): void {
  const { host } = w;
  giveDevice(w, domid, sbdf, (to, device, did) => {
    const unit = host.iommu.unitOf(device);
    const old = host.iommu.contexts[device] as number;
    const { levels } = unit.config;
    store(host, device, makeContext({ type: contextType.multiLevel, levels, shared: true, did, root: to.r.p2mRoot }));
    invalidateContext(host, unit, device, contextDid(old));
  });
}

/** XSA-442: the entry itself is invalidated, and what was translated by it is not. */
export function assignKeepingTranslations(w: World, domid: number, sbdf: Sbdf): void {
  const { host } = w;
  giveDevice(w, domid, sbdf, (to, device, did) => {
    const unit = host.iommu.unitOf(device);
    const old = host.iommu.contexts[device] as number;
    const levels = contextLevels(old);
    const entry = { type: contextType.multiLevelAts, levels, shared: false, did, root: to.r.iommuRoot };
    store(host, device, makeContext(entry));
    step(stepKind.iotlbFlush, unit.index);
    unit.register.lock();
    unit.queue?.submit(ofContext(device, contextDid(old)), host.cpu);
    unit.register.unlock();
    unit.queue?.wait(host.cpu, host.lockTable, (line) => host.platform.printk(line));
  });
}
