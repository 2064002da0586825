// The domain ids of a unit as before XSA-399: "in use" is a bit, the owner a word beside it, and the bit goes first.
import type { World } from '#explore/world';
import { DOMID_IO, type Sbdf } from '#model/frames/addresses';
import { changeOwner, setContext } from '#model/iommu/device-owner';
import { didOf } from '#model/iommu/vtd/domain-ids';
import { step, stepKind } from '#model/shared-memory/step';

/**
 * A device leaves a dying domain; the id that domain had on the unit is given back without a lock. An owner word that was reset is 0,
 * which is dom0's number.
 */
export function leaveFreeingTheBitFirst(w: World, domid: number, sbdf: Sbdf): void {
  const { host } = w;
  const d = w.domain(domid);
  host.pcidevsLock.lock();
  const device = host.iommu.deviceIndex(sbdf);
  const unit = host.iommu.unitOf(device);
  setContext(host, device, device, DOMID_IO);
  changeOwner(host, device, d, DOMID_IO);
  host.iommu.addUnitUse(d.slot, unit.index, -1);
  host.pcidevsLock.unlock();
  const did = didOf(unit, domid);
  step(stepKind.write, did);
  Atomics.store(unit.didOwners, did, 0);
  step(stepKind.write, did);
  Atomics.store(unit.didOwners, did, 1);
}
