// The other answer to a reserved region that several devices name: not to refuse all of them, but to let one guest have them all.
import type { World } from '#explore/world';
import { DOMID_IO, type Sbdf } from '#model/frames/addresses';
import { DEV_RDM_RELAXED } from '#model/hypercall/calls';
import { assignDevice } from '#model/iommu/assign';
import { regionsOf } from '#model/iommu/regions-of';

/** Refused while another device of the region is with another guest. */
export function assignWithGroup(w: World, domid: number, sbdf: Sbdf): void {
  const { host } = w;
  const { iommu } = host;
  host.pcidevsLock.lock();
  const elsewhere = regionsOf(host, iommu.deviceIndex(sbdf)).some(({ devices }) =>
    devices.some((other) => ![0, domid, DOMID_IO as number].includes(iommu.ownerOf(iommu.deviceIndex(other)))),
  );
  if (!elsewhere) assignDevice(host, w.domain(domid), sbdf, DEV_RDM_RELAXED);
  host.pcidevsLock.unlock();
}
