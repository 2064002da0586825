// Each device of a machine: may a guest have it, which of firmware's ranges or which other device stands in the way, what the two
// policies change, and the lines that Xen or Linux will print. Knows no guest.
import type { HostDevice } from '#formats/host-file';
import { logText } from '#formats/xl-output';
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import { errno } from '#model/hypercall/errno';
import { libxlAt, libxlError, libxlFailed, libxlWarning } from '#model/toolstack/libxl-log';
import {
  bdfText,
  covers,
  type DeviceFacts,
  isShared,
  type Machine,
  type ReservedRange,
  scopeCount,
} from './machine.ts';
import { pageRuns, rangeName, runText } from './placed-range.ts';
import { counted, hex, rangeText, sizeText } from './ranges.ts';
import type { XenBoot } from './xen-boot.ts';

export interface PolicyEffect {
  readonly allowed: boolean;
  readonly what: string;
  /** As printed: `(XEN) …`, `libxl: …`. */
  readonly lines: readonly string[];
}

export interface DeviceRangeReport {
  readonly range: string;
  readonly place: string;
  /** Page by page in the host's map. */
  readonly pages: readonly string[];
  readonly sharedWith: readonly string[];
}

export interface DeviceReport {
  readonly sbdf: Sbdf;
  readonly bdf: string;
  readonly name: string;
  readonly pciClass: number;
  readonly verdict: 'assignable' | 'relaxed only' | 'not assignable' | 'unclear' | 'not for guests';
  readonly why: string;
  readonly ranges: readonly DeviceRangeReport[];
  readonly strict: PolicyEffect;
  readonly relaxed: PolicyEffect;
  /** What Linux prints if vfio is to take it instead. */
  readonly linux: readonly string[];
  /** Bridges above it, where the listing shows them. */
  readonly upstreamBridge: string | null;
  readonly iommuGroup: number | null;
  readonly bars: readonly string[];
  readonly flr: boolean | null;
}

const HOST_BRIDGE = 0x0600;
const FIRST_BRIDGE = 0x0600;
const LAST_BRIDGE = 0x06ff;
/** "Bridge, other": not what PCI calls a bridge. */
const OTHER_BRIDGE = 0x0680;

const shortClass = (device: HostDevice): number => device.pciClass >>> 8;

export const isBridge = (device: HostDevice): boolean => {
  const code = shortClass(device);
  return code >= FIRST_BRIDGE && code <= LAST_BRIDGE && code !== OTHER_BRIDGE;
};

const isUsb = (device: HostDevice): boolean => shortClass(device) === 0x0c03;
const isDisplay = (device: HostDevice): boolean => device.pciClass >>> 16 === 0x03;

export const rangesOf = (machine: Machine, sbdf: Sbdf): ReservedRange[] =>
  machine.ranges.filter((range) => range.start <= range.end && covers(range, sbdf));

export const deviceReports = (machine: Machine, boot: XenBoot): DeviceReport[] =>
  machine.host.devices.map((device) => deviceReport(machine, boot, device)).sort((a, b) => a.sbdf - b.sbdf);

function deviceReport(machine: Machine, boot: XenBoot, device: HostDevice): DeviceReport {
  const { sbdf, name, pciClass, upstreamBridge } = device;
  const ranges = rangesOf(machine, sbdf);
  const facts = machine.facts.get(sbdf);
  const blocked = obstacle(boot, device);
  const strict = blocked ?? strictEffect(sbdf, ranges);
  const relaxed = blocked ?? relaxedEffect(sbdf, ranges);
  return {
    sbdf,
    bdf: bdfText(sbdf),
    name,
    pciClass,
    ...verdictOf(device, ranges, blocked, strict, unknownRanges(machine, sbdf)),
    ranges: ranges.map((range) => rangeReport(machine, sbdf, range)),
    strict,
    relaxed,
    linux: linuxLines(device, ranges, facts),
    upstreamBridge: upstreamBridge === null ? null : bdfText(upstreamBridge),
    iommuGroup: facts?.iommuGroup ?? null,
    bars: device.bars.map(
      ({ index, size, kind }) => `${index === 6 ? 'ROM' : `BAR ${index}`} ${sizeText(size)} ${kind}`,
    ),
    flr: facts?.flr ?? null,
  };
}

function rangeReport(machine: Machine, sbdf: Sbdf, range: ReservedRange): DeviceRangeReport {
  const others = machine.host.devices
    .map((device) => device.sbdf)
    .filter((other) => other !== sbdf && covers(range, other));
  return {
    range: `${rangeName(range)} (${sizeText(range.end - range.start + 1)})`,
    place: range.place,
    pages: pageRuns(machine, range).map(runText),
    sharedWith: [...others.map(bdfText), ...range.unresolved.map((path) => `${path} (unresolved)`)],
  };
}

function verdictOf(
  device: HostDevice,
  ranges: readonly ReservedRange[],
  blocked: PolicyEffect | null,
  strict: PolicyEffect,
  unknown: number,
): Pick<DeviceReport, 'verdict' | 'why'> {
  if (isBridge(device)) return { verdict: 'not for guests', why: 'a bridge: it belongs to the host' };
  if (blocked) return { verdict: 'not assignable', why: blocked.what };
  const shared = ranges.filter(isShared);
  if (!strict.allowed) {
    const [first] = shared;
    const which = first ? `${rangeText(first)} (${first.place})` : '';
    const more = shared.length > 1 ? ` and ${shared.length - 1} more are` : ' is';
    return {
      verdict: 'relaxed only',
      why: `its reserved ${which}${more} shared by ${Math.max(...shared.map(scopeCount))} devices`,
    };
  }
  if (ranges.length === 0 && unknown > 0) {
    return {
      verdict: 'unclear',
      why: `${counted(unknown, 'reserved range')} may be its own: nothing given tells for which device`,
    };
  }
  if (ranges.length === 0) return { verdict: 'assignable', why: 'no reserved memory' };
  const which = ranges.map((range) => `${rangeText(range)} (${range.place})`).join(', ');
  return { verdict: 'assignable', why: `the guest’s RAM must stay off its reserved ${which}` };
}

/** Ranges whose devices are not told, and that may therefore be this one's: behind a bridge those with an unresolved path too. */
function unknownRanges({ ranges }: Machine, sbdf: Sbdf): number {
  const behindBridge = ((sbdf >> 8) & 0xff) !== 0;
  return ranges.filter((range) => scopeCount(range) === 0 || (behindBridge && range.unresolved.length > 0)).length;
}

function obstacle(boot: XenBoot, device: HostDevice): PolicyEffect | null {
  const no = (what: string, line: string): PolicyEffect => ({ allowed: false, what, lines: [line] });
  const name = formatSbdf(device.sbdf);
  if (shortClass(device) === HOST_BRIDGE) return no('a host bridge', `(XEN) d1: assign (${name}) failed (-1)`);
  if (boot.iommuOn) return null;
  return no(
    'Xen has no IOMMU in use',
    logText(libxlError(libxlAt.deviceTaken, `PCI device ${name} cannot be assigned - no IOMMU?`, 1)),
  );
}

function strictEffect(sbdf: Sbdf, ranges: readonly ReservedRange[]): PolicyEffect {
  const shared = ranges.find(isShared);
  const name = formatSbdf(sbdf);
  if (shared) {
    return {
      allowed: false,
      what: 'Xen refuses the device: another device may still use the region (-EPERM)',
      lines: [
        `(XEN) [VT-D] It's disallowed to assign ${name} with shared RMRR at ${hex(shared.start)} for d1.`,
        `(XEN) d1: assign (${name}) failed (-1)`,
        logText(libxlFailed(libxlAt.assignFailed, 'xc_assign_device failed', -errno.EPERM, 1)),
      ],
    };
  }
  if (ranges.length === 0) return { allowed: true, what: 'no difference: no reserved memory', lines: [] };
  const lines = ranges.map(({ start }) => logText(libxlError(libxlAt.rdmConflict, `RDM conflict at 0x${hex(start)}.`)));
  return {
    allowed: true,
    what: 'a guest with RAM over the region is not created at all; it is refused with',
    lines: [...lines, logText(libxlError(libxlAt.rdmCheck, 'checking reserved device memory failed'))],
  };
}

function relaxedEffect(sbdf: Sbdf, ranges: readonly ReservedRange[]): PolicyEffect {
  if (ranges.length === 0) return { allowed: true, what: 'no difference: no reserved memory', lines: [] };
  const shared = ranges.filter(isShared);
  const risky = shared.map(
    ({ start }) => `(XEN) [VT-D] It's risky to assign ${formatSbdf(sbdf)} with shared RMRR at ${hex(start)} for d1.`,
  );
  const ignored = ranges.map(({ start }) =>
    logText(libxlWarning(libxlAt.rdmIgnored, `Ignoring RDM conflict at 0x${hex(start)}.`)),
  );
  const gfn = hex(Math.floor((ranges[0]?.start ?? 0) / 4096));
  return {
    allowed: true,
    what: 'a guest with RAM over the region starts all the same: the region is hidden from its map, its pages stay RAM, and the device’s firmware reaches the guest’s data instead',
    lines: [...risky, ...ignored, `(XEN) Cannot setup identity map d1:${gfn}, gfn already mapped to MFN.`],
  };
}

/** Linux’s vfio: USB and graphics may leave their RMRR behind (device_rmrr_is_relaxable), nothing else. */
function linuxLines(device: HostDevice, ranges: readonly ReservedRange[], facts: DeviceFacts | undefined): string[] {
  const name = formatSbdf(device.sbdf);
  if (ranges.some(({ kind }) => kind === 'IVMD')) {
    return [
      `vfio ${name}: Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device without a 1:1 mapping`,
    ];
  }
  if (ranges.length === 0 || isUsb(device) || isDisplay(device) || (facts?.guessed === true && device.pciClass === 0))
    return [];
  return [
    `vfio-pci ${name}: DMAR: Device is ineligible for IOMMU domain attach due to platform RMRR requirement.  Contact your platform vendor.`,
    'QEMU: vfio: failed to set iommu for container: Operation not permitted',
  ];
}
