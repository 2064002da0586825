// One device to one domain, as libxl's device_pci_add and device_pci_remove: the checks and messages of libxl, the assignment,
// the permission for its memory windows, and (the device model's part) their mapping where firmware put them.
// Which devices may be given away at all is kept in xenstore, as libxl keeps it under /libxl/pciback.
import { DOMID_IO, formatSbdf } from '../frames/addresses.ts';
import type { GuestPciDevice } from '../guest/guest-spec.ts';
import type { DeviceConfig } from '../host-config.ts';
import { DEV_RDM_RELAXED, type Hypercalls } from '../hypercall/calls.ts';
import { errno } from '../hypercall/errno.ts';
import type { AttachedDevice } from './built-domain.ts';
import { type LogLine, libxlAt, libxlError, libxlFailed, libxlWarning } from './libxl-log.ts';
import { ERROR_FAIL } from './passthrough-policy.ts';
import { type PciDevice, pciSbdf } from './pci-spec.ts';
import { type Failure, failure, type OpResult, type ToolstackPorts } from './ports.ts';

const PAGE = 4096;
const CONTROL_DOMID = 0;

/** xenstore accepts no colon or dot. */
const assignableKey = (sbdf: number): string => `libxl/pciback/${formatSbdf(sbdf as never).replaceAll(/[:.]/g, '-')}`;

const short = ({ domain, bus, dev, func }: PciDevice): string =>
  `${domain.toString(16)}:${bus.toString(16)}:${dev.toString(16)}.${func.toString(16)}`;

export function findDevice(ports: Pick<ToolstackPorts, 'devices'>, sbdf: number): DeviceConfig | null {
  return ports.devices.find((device) => device.sbdf === sbdf) ?? null;
}

export const isAssignable = (ports: Pick<ToolstackPorts, 'xenstore'>, sbdf: number): boolean =>
  ports.xenstore.read(CONTROL_DOMID, assignableKey(sbdf)) !== null;

/** Devices in the order the host lists them. */
export const assignableDevices = (ports: ToolstackPorts): readonly DeviceConfig[] =>
  ports.devices.filter(({ sbdf }) => isAssignable(ports, sbdf));

/** xl pci-assignable-add: taken from dom0 and quarantined. Doing it again is fine. */
export function makeAssignable(ports: ToolstackPorts, sbdf: number): OpResult {
  const name = formatSbdf(sbdf as never);
  if (!findDevice(ports, sbdf)) {
    const text = `Couldn't lstat /sys/bus/pci/devices/${name}`;
    return failure(ERROR_FAIL, libxlFailed(libxlAt.noSuchDevice, text, -errno.ENOENT));
  }
  if (isAssignable(ports, sbdf)) {
    return { ok: true, log: [libxlWarning(libxlAt.assignableAlready, `${name} already assigned to pciback`)] };
  }
  // dom_io maps nothing, so a shared reserved region must not stand in the way (as libxl, always relaxed here).
  const { rc } = ports.port.call({ op: 'assign_device', domid: DOMID_IO, sbdf, flags: DEV_RDM_RELAXED });
  if (rc < 0) return failure(ERROR_FAIL, libxlError(libxlAt.quarantineFailed, `failed to quarantine ${name}`));
  ports.xenstore.write(CONTROL_DOMID, assignableKey(sbdf), '');
  return { ok: true, log: [] };
}

/** xl pci-assignable-remove: back to dom0. */
export function unmakeAssignable(ports: ToolstackPorts, sbdf: number): OpResult {
  const name = formatSbdf(sbdf as never);
  const { rc } = ports.port.call({ op: 'deassign_device', domid: DOMID_IO, sbdf });
  if (rc < 0) return failure(ERROR_FAIL, libxlError(libxlAt.dequarantineFailed, `failed to de-quarantine ${name}`));
  ports.xenstore.remove(CONTROL_DOMID, assignableKey(sbdf));
  return { ok: true, log: [] };
}

interface Window {
  readonly mfn: number;
  readonly pages: number;
  /** Register's index, to find where firmware put it. */
  readonly bar: number;
}

export const windowsOf = (device: DeviceConfig): readonly Window[] =>
  device.bars
    .filter(({ kind }) => kind !== 'io')
    .flatMap(({ hostAddr, size, index }) =>
      index === 'rom' ? [] : [{ mfn: Math.floor(hostAddr / PAGE), pages: Math.ceil(size / PAGE), bar: index }],
    );

/** XEN_DOMCTL_memory_mapping, advanced as far as each call went. Removal goes on after errors, as libxc's does. */
export function mapWindow(
  port: Hypercalls,
  domid: number,
  gfn: number,
  mfn: number,
  pages: number,
  add: boolean,
): number {
  let done = 0;
  while (done < pages) {
    const nrMfns = pages - done;
    const { rc } = port.call({
      op: 'memory_mapping',
      domid,
      firstGfn: gfn + done,
      firstMfn: mfn + done,
      nrMfns,
      add,
    });
    if (rc < 0) return rc;
    done += rc === 0 ? nrMfns : rc;
  }
  return 0;
}

function permit(port: Hypercalls, domid: number, device: DeviceConfig, allow: boolean): number {
  for (const { mfn, pages } of windowsOf(device)) {
    const { rc } = port.call({ op: 'iomem_permission', domid, firstMfn: mfn, nrMfns: pages, allow });
    if (rc < 0 && allow) return rc;
  }
  return 0;
}

/** libxl's last word about a device that it could not add, after the reason. `rc` is what libxl returns then. */
function notAdded(domid: number, pci: PciDevice, reason: LogLine, rc = ERROR_FAIL): Failure {
  const text = `libxl__device_pci_add failed for PCI device ${short(pci)} (rc ${rc})`;
  return failure(ERROR_FAIL, reason, libxlError(libxlAt.deviceAddFailed, text, domid));
}

const notAssignable = (domid: number, pci: PciDevice): Failure =>
  notAdded(domid, pci, libxlError(libxlAt.notAssignable, `PCI device ${short(pci)} is not assignable`, domid));

/** Xen minds neither which domain has the device nor whether there is one: for libxl it is always "a different guest". */
function refusedByXen({ port }: ToolstackPorts, domid: number, pci: PciDevice): Failure | null {
  const sbdf = pciSbdf(pci);
  const { rc } = port.call({ op: 'test_assign_device', domid, sbdf });
  if (rc === 0) return null;
  const why = rc === -errno.EOPNOTSUPP ? 'cannot be assigned - no IOMMU' : 'already assigned to a different guest';
  const text = `PCI device ${formatSbdf(sbdf)} ${why}?`;
  // libxenctrl's own -1 goes through.
  return notAdded(domid, pci, libxlError(libxlAt.deviceTaken, text, domid), -1);
}

/** Where firmware put a window, by BAR index; null: it did not place it. Empty on hotplug: the guest's system places it. */
export type WindowPlaces = ReadonlyMap<number | 'rom', number>;

/** Everything or nothing. */
export function attachDevice(
  ports: ToolstackPorts,
  domid: number,
  pci: PciDevice,
  places: WindowPlaces,
): OpResult<{ readonly attached: AttachedDevice }> {
  const { port } = ports;
  const sbdf = pciSbdf(pci);
  const refused = refusedByXen(ports, domid, pci);
  if (refused) return refused;
  if (pci.seize && !isAssignable(ports, sbdf)) {
    const seized = makeAssignable(ports, sbdf);
    if (!seized.ok) return seized;
  }
  const device = findDevice(ports, sbdf);
  if (!device || !isAssignable(ports, sbdf)) return notAssignable(domid, pci);
  // An unset policy is strict for a device.
  const flags = pci.rdmPolicy === 'relaxed' ? DEV_RDM_RELAXED : 0;
  const { rc } = port.call({ op: 'assign_device', domid, sbdf, flags });
  if (rc < 0) return notAdded(domid, pci, libxlFailed(libxlAt.assignFailed, 'xc_assign_device failed', rc, domid));
  const windows: AttachedDevice['windows'][number][] = [];
  const attached = { pci, sbdf, windows };
  const undo = (reason: LogLine): Failure => {
    detachDevice(ports, domid, attached);
    return notAdded(domid, pci, reason);
  };
  const permission = permit(port, domid, device, true);
  if (permission < 0) {
    const text = `xc_domain_iomem_permission of ${formatSbdf(sbdf)} (error ${permission})`;
    return undo(libxlFailed(libxlAt.iomemPermission, text, permission, domid));
  }
  for (const { mfn, pages, bar } of windowsOf(device)) {
    const address = places.get(bar);
    if (address === undefined) continue;
    const window = { bar, gfn: Math.floor(address / PAGE), mfn, pages };
    const mapped = mapWindow(port, domid, window.gfn, mfn, pages, true);
    windows.push(window);
    // The device model maps windows, not libxl: the line is this toolstack's.
    if (mapped !== 0) return undo(libxlFailed(libxlAt.assignFailed, 'xc_domain_memory_mapping failed', mapped, domid));
  }
  return { ok: true, log: [], attached };
}

/** What the guest finds on its bus of the devices it was built with. */
export function guestPciDevices(
  devices: readonly DeviceConfig[],
  attached: readonly AttachedDevice[],
): GuestPciDevice[] {
  return attached.flatMap(({ sbdf, windows }) => {
    const device = findDevice({ devices }, sbdf);
    if (!device) return [];
    const placed = new Map(windows.map(({ bar, gfn }) => [bar, gfn]));
    const found = windowsOf(device).map(({ bar, pages }) => ({ bar, gfn: placed.get(bar) ?? null, pages }));
    return [{ device: sbdf, windows: found }];
  });
}

/** Windows, permissions, then the device itself: it goes back to quarantine. */
export function detachDevice(ports: ToolstackPorts, domid: number, attached: AttachedDevice): OpResult {
  const { port } = ports;
  const { sbdf, windows } = attached;
  const device = findDevice(ports, sbdf);
  for (const { gfn, mfn, pages } of windows) mapWindow(port, domid, gfn, mfn, pages, false);
  if (device) permit(port, domid, device, false);
  const { rc } = port.call({ op: 'deassign_device', domid, sbdf });
  return rc < 0
    ? failure(ERROR_FAIL, libxlFailed(libxlAt.deassignFailed, 'xc_deassign_device failed', rc, domid))
    : { ok: true, log: [] };
}
