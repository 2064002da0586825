// The whole preflight: a machine and the guests it is to run, in; verdicts per device and guest, groups, findings, out. Pure: reads
// no file, prints nothing.
import { logText } from '#formats/xl-output';
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import { libxlAt, libxlError } from '#model/toolstack/libxl-log';
import { pciSbdf } from '#model/toolstack/pci-spec';
import { type DeviceReport, deviceReports } from './device-report.ts';
import { exitOf, type Finding, worstFirst } from './finding.ts';
import { type GroupReport, groupReports } from './group-report.ts';
import { type GuestFile, type GuestReport, guestReport } from './guest-report.ts';
import { hostFindings } from './host-findings.ts';
import { bdfText, covers, type DeviceRange, isShared, isSingle, type Machine, type ReservedRange } from './machine.ts';
import { pageRuns, rangeName, runText } from './placed-range.ts';
import { planningView } from './planning-host.ts';
import { KIB_PER_MIB } from './ranges.ts';
import { bootXen, type XenBoot } from './xen-boot.ts';

export interface RangeReport {
  readonly name: string;
  readonly place: string;
  readonly bytes: number;
  readonly devices: readonly string[];
  readonly pages: readonly string[];
}

export interface PreflightReport {
  readonly machine: Machine;
  readonly boot: XenBoot;
  readonly sharing: { readonly shared: boolean; readonly reason: string };
  readonly devices: readonly DeviceReport[];
  readonly groups: readonly GroupReport[];
  readonly ranges: readonly RangeReport[];
  readonly guests: readonly GuestReport[];
  /** Worst first. */
  readonly findings: readonly Finding[];
  readonly exit: 0 | 1 | 3;
}

export function preflight(machine: Machine, guestFiles: readonly GuestFile[]): PreflightReport {
  const view = planningView(machine);
  const boot = bootXen(machine);
  const devices = deviceReports(machine, boot);
  const guests = guestFiles.map((guest) => guestReport(machine, view, devices, guest));
  const findings = worstFirst([
    ...hostFindings(machine, view, boot),
    ...guests.flatMap((guest) => guest.findings),
    ...twiceFindings(guests),
    ...splitFindings(machine, guests),
    ...memoryShort(machine, view.freeKb, guests),
  ]);
  return {
    machine,
    boot,
    sharing: view.sharing,
    devices,
    groups: groupReports(machine),
    ranges: machine.ranges.map((range) => rangeReport(machine, range)),
    guests,
    findings,
    exit: exitOf(findings),
  };
}

function rangeReport(machine: Machine, range: ReservedRange): RangeReport {
  return {
    name: rangeName(range),
    place: range.place,
    bytes: range.end - range.start + 1,
    devices: [...range.scopes.map(scopeText), ...range.unresolved.map((path) => `${path} (unresolved)`)],
    pages: pageRuns(machine, range).map(runText),
  };
}

/** A path over bridges with the device it leads to. */
const scopeText = (scope: DeviceRange): string =>
  isSingle(scope) && scope.text.includes('/') ? `${scope.text} → ${bdfText(scope.first)}` : scope.text;

const passedTo = ({ config }: GuestReport): Sbdf[] => (config?.pci ?? []).map(pciSbdf);

function twiceFindings(guests: readonly GuestReport[]): Finding[] {
  return guests.flatMap((guest, i) =>
    passedTo(guest).flatMap((sbdf): Finding[] => {
      const earlier = guests.slice(0, i).find((other) => passedTo(other).includes(sbdf));
      if (!earlier) return [];
      return [
        {
          code: 'DEVICE-TWICE',
          severity: 'blocker',
          subject: `guest ${guest.name}, device ${bdfText(sbdf)}`,
          message: `guest ${earlier.name} has it already: only one of the two can run`,
          evidence: [
            logText(
              libxlError(
                libxlAt.deviceTaken,
                `PCI device ${formatSbdf(sbdf)} already assigned to a different guest?`,
                1,
              ),
            ),
          ],
          remedy: 'run one of them at a time, or give each its own device',
        },
      ];
    }),
  );
}

function splitFindings(machine: Machine, guests: readonly GuestReport[]): Finding[] {
  return machine.ranges
    .filter((range) => isShared(range) || range.kind === 'IVMD')
    .flatMap((range): Finding[] => {
      const users = guests.filter((guest) => passedTo(guest).some((sbdf) => covers(range, sbdf)));
      if (users.length < 2) return [];
      const names = users.map(({ name }) => name).join(' and ');
      return [
        {
          code: 'RMRR-SHARED-SPLIT',
          severity: 'warning',
          subject: rangeName(range),
          message: `its devices go to ${names}: what one writes there the other reads`,
          evidence: [range.place],
          remedy: 'give all devices of the range to one guest',
        },
      ];
    });
}

function memoryShort({ host, mapKnown }: Machine, freeKb: number, guests: readonly GuestReport[]): Finding[] {
  const neededMib = guests.reduce((sum, { memory }) => sum + (memory?.neededMib ?? 0), 0);
  const freeMib = Math.floor(freeKb / KIB_PER_MIB);
  if (neededMib <= freeMib || !mapKnown) return [];
  const dom0Mib = host.dom0.memoryMb - (neededMib - freeMib);
  const dom0Least = 512;
  return [
    {
      code: 'HOST-MEMORY-SHORT',
      severity: 'warning',
      subject: 'host',
      message: `the guests need ${neededMib} MiB, the host has ${freeMib} MiB beside dom0’s ${host.dom0.memoryMb}`,
      evidence: [
        ...guests.map(({ name, memory }) => `${name}: ${memory?.neededMib ?? 0} MiB`),
        'xl: failed to free memory for the domain',
      ],
      remedy:
        dom0Mib >= dom0Least
          ? `give dom0 at most ${dom0Mib} MiB (dom0_mem=), or the guests less`
          : 'give the guests less',
    },
  ];
}
