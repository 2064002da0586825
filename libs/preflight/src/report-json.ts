// The preflight as one JSON object for programs. Owns its shape: names and addresses as text, nothing that only the planner needs.
import { formatSbdf } from '#model/frames/addresses';
import type { GuestReport } from './guest-report.ts';
import { barName } from './layout-problems.ts';
import type { PreflightReport } from './preflight.ts';

const hex = (n: number): string => `0x${n.toString(16)}`;

export function preflightObject(report: PreflightReport, scenarios: readonly string[]): object {
  const { machine, boot, sharing, devices, groups, ranges, guests, findings, exit } = report;
  return {
    verdict: { 0: 'clean', 1: 'blocked', 3: 'warnings' }[exit],
    exit,
    host: {
      name: machine.host.name,
      iommu: machine.iommu,
      iommuOn: boot.iommuOn,
      tablesShared: sharing.shared,
      sharingReason: sharing.reason,
      xen: boot.lines,
      assumptions: machine.assumptions,
    },
    devices: devices.map(({ sbdf, pciClass, ...device }) => ({
      sbdf: formatSbdf(sbdf),
      class: hex(pciClass),
      ...device,
    })),
    ranges,
    groups: groups.map(({ members, ...group }) => ({ ...group, members: members.map(formatSbdf) })),
    guests: guests.map(guestObject),
    findings,
    scenarios,
  };
}

function guestObject({ file, name, verdict, why, layout, memory, changes }: GuestReport): object {
  return {
    file,
    name,
    verdict,
    why,
    memory,
    changes: changes.map(({ key, line, effect }) => ({ key, line, effect })),
    layout: layout && {
      lowmemEnd: hex(layout.lowmemEnd),
      highmemEnd: hex(layout.highmemEnd),
      e820: layout.e820.map(({ addr, size, type }) => ({ start: hex(addr), end: hex(addr + size - 1), type })),
      bars: layout.bars.map((bar) => ({
        bar: barName(bar),
        size: bar.size,
        io: bar.isIo,
        address: bar.address === null ? null : hex(bar.address),
      })),
      reserved: layout.rdms.map(({ start, size, policy }) => ({
        start: hex(start),
        end: hex(start + size - 1),
        policy,
      })),
      refusal: layout.refusal,
      warnings: layout.warnings,
      console: layout.console,
    },
  };
}
