// Device groups: devices behind one bridge can reach each other without any unit seeing it, so the topmost bridge above a
// device names its group (as VT-d's get_device_group_id). It reports; nothing here forbids to split a group.
import type { Domain } from '../domain/domain.ts';
import type { Domid, Sbdf } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';

/** Devices of a domain (or DOMID_IO), in the order of the host's description. */
export function devicesOf(h: Host, domid: Domid | number): Sbdf[] {
  return h.config.devices.filter((_, device) => h.iommu.ownerOf(device) === domid).map(({ sbdf }) => sbdf);
}

const busOf = (sbdf: number): number => Math.floor(sbdf / 256);
const segmentOf = (sbdf: number): number => Math.floor(sbdf / 65536);

/** Xen derives it from the bus alone, so an address where no device is known has a group too. */
function groupOf(h: Host, sbdf: number): number {
  const { devices } = h.config;
  const known =
    devices.find((device) => device.sbdf === sbdf) ?? devices.find((device) => busOf(device.sbdf) === busOf(sbdf));
  return known?.upstreamBridge ?? sbdf;
}

/**
 * XEN_DOMCTL_get_device_group: other devices of the same segment and group that `d` owns, at most `max` (the rest is left
 * out without a word). Xen's own array has (bus << 16) | (devfn << 8) for each, without a segment; here it is the address.
 */
export function getDeviceGroup(
  h: Host,
  d: Domain,
  sbdf: Sbdf | number,
  max: number,
): { readonly rc: number; readonly sbdfs: readonly Sbdf[] } {
  if (!d.has('iommu')) return { rc: -errno.EOPNOTSUPP, sbdfs: [] };
  const group = groupOf(h, sbdf);
  h.pcidevsLock.lock();
  const sbdfs = devicesOf(h, d.domid).filter(
    (other) => other !== sbdf && segmentOf(other) === segmentOf(sbdf) && groupOf(h, other) === group,
  );
  h.pcidevsLock.unlock();
  return { rc: 0, sbdfs: sbdfs.slice(0, max) };
}
