// Mapping the reserved pages of a device as before XSA-460: the record of them is made when all are mapped.
import type { World } from '#explore/world';
import type { Domain } from '#model/domain/domain';
import type { Sbdf } from '#model/frames/addresses';
import type { Host } from '#model/host';
import { changeOwner, currentOwner, leaveUnit, setContext, useUnit } from '#model/iommu/device-owner';
import { identityMaps, iommuIdentityMapping, UNMAP_IDENTITY } from '#model/iommu/identity-mapping';
import { regionsOf } from '#model/iommu/regions-of';
import { identityPages, p2mAddIdentityEntry } from '#model/p2m/identity';
import { p2mAccess } from '#model/p2m/types';

const FIELDS = 5;

/** assign_device of a device whose reserved regions the domain does not have yet. */
export function assignRecordingLast(w: World, domid: number, sbdf: Sbdf): void {
  const { host } = w;
  const to = w.domain(domid);
  host.pcidevsLock.lock();
  const device = host.iommu.deviceIndex(sbdf);
  const from = currentOwner(host, device);
  const failed = regionsOf(host, device).some(({ startPfn, endPfn }) => mapRegion(host, to, startPfn, endPfn) !== 0);
  if (failed) {
    // The caller takes back what it finds on record.
    for (const { startPfn, endPfn } of regionsOf(host, device))
      iommuIdentityMapping(host, to, UNMAP_IDENTITY, startPfn, endPfn, 0);
  } else if (from !== null) {
    useUnit(host, device, to);
    if (setContext(host, device, device, to) === 0) {
      changeOwner(host, device, from, to);
      leaveUnit(host, device, from);
    } else {
      leaveUnit(host, device, to);
      for (const { startPfn, endPfn } of regionsOf(host, device))
        iommuIdentityMapping(host, to, UNMAP_IDENTITY, startPfn, endPfn, 0);
    }
  }
  host.pcidevsLock.unlock();
}

function mapRegion(h: Host, d: Domain, first: number, last: number): number {
  for (let g = first; g <= last; g++) {
    const rc = p2mAddIdentityEntry(h, d, g, p2mAccess.rw, 0);
    if (rc !== 0) return rc;
  }
  const node = identityMaps(d).length;
  d.r.identityMaps.set([first, last, p2mAccess.rw, 1, identityPages(h, d, first, last)], node * FIELDS);
  d.r.identityMapCount = node + 1;
  return 0;
}
