// What QEMU, in dom0, asks of the hypervisor for a guest that runs: to move one of the guest's pages elsewhere (a framebuffer or a ROM
// whose BAR was placed), and to map a window of a passed-through device. The hypervisor's error goes to the device model's log;
// here it is the operation's.
import { formatSbdf } from '../frames/addresses.ts';
import { physmapSpace } from '../hypercall/calls.ts';
import { errnoText } from '../hypercall/errno.ts';
import { xlSays } from './libxl-log.ts';
import { ERROR_FAIL, ERROR_INVAL } from './passthrough-policy.ts';
import { findDevice, mapWindow, windowsOf } from './pci-assignment.ts';
import { failure, type OpResult, type ToolstackPorts } from './ports.ts';
import { reservedRegions } from './reserved-regions.ts';

const hex = (n: number): string => `0x${n.toString(16)}`;

/** What is put over the first frame of the device's reserved region. */
export type Overlay = { readonly page: number } | { readonly bar: number };

export function overlayReserved(ports: ToolstackPorts, domid: number, sbdf: number, what: Overlay): OpResult {
  const name = formatSbdf(sbdf as never); // devices are named by plain numbers in calls
  const [region] = reservedRegions(ports.port, 0, sbdf) ?? [];
  if (!region) return failure(ERROR_INVAL, xlSays(`device model: ${name} has no reserved memory`));
  const { startPfn } = region;
  const fail = (text: string, rc: number) =>
    failure(ERROR_FAIL, xlSays(`device model of domain ${domid}: ${text}: ${errnoText(rc)}`));
  if ('page' in what) {
    const { page: idx } = what;
    const space = physmapSpace.gmfn;
    const { rc } = ports.port.call({ op: 'add_to_physmap', domid, space, idx, gpfn: startPfn, size: 1 });
    return rc === 0 ? { ok: true, log: [] } : fail(`cannot move page ${hex(idx)} to ${hex(startPfn)}`, rc);
  }
  const device = findDevice(ports, sbdf);
  const window = device && windowsOf(device).find(({ bar }) => bar === what.bar);
  if (!window) return failure(ERROR_INVAL, xlSays(`device model: ${name} has no memory window ${what.bar}`));
  const rc = mapWindow(ports.port, domid, startPfn, window.mfn, window.pages, true);
  return rc === 0 ? { ok: true, log: [] } : fail(`cannot map BAR ${what.bar} of ${name} at ${hex(startPfn)}`, rc);
}
