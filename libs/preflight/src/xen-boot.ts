// What Xen does with firmware's reserved regions when it boots, and what it and Linux print about them. The decision and Xen's lines
// are the hypervisor's own (iommu/vtd/dmar.ts); this file hands it the regions as firmware wrote them.
import { hostConfig } from '#formats/host-config';
import { resolvePolicies } from '#formats/policies';
import type { RmrrConfig } from '#model/host-config';
import { parseDmar } from '#model/iommu/vtd/dmar';
import { covers, isSingle, type Machine, type ReservedRange } from './machine.ts';
import { FOUR_GIB, hex, overlap, PAGE, wholePages } from './ranges.ts';

export interface XenBoot {
  readonly iommuOn: boolean;
  /** Xen's console about the table, without its prefix. */
  readonly lines: readonly string[];
  /** Why the IOMMU is off: the last words. */
  readonly why: string | null;
}

/** Xen looks at regions outside reserved memory page by page; a larger one is damage, and told as such elsewhere. */
const MAX_PAGES = FOUR_GIB / PAGE;
const PREFIX = 18;

export function bootXen(machine: Machine): XenBoot {
  if (machine.host.iommuUnits.length === 0) return { iommuOn: false, lines: [], why: 'the host has no IOMMU' };
  // AMD's ranges are judged one by one; a range over RAM ends the driver's set-up as well.
  if (machine.iommu === 'AMD-Vi') return bootAmd(machine);
  // Of an assumed map nothing can be said to lie in RAM.
  const memoryMap = machine.mapKnown ? machine.firmwareMap : machine.host.memoryMap;
  const config = hostConfig({ ...machine.host, memoryMap }, resolvePolicies({}));
  const rmrrs = machine.ranges
    .filter((range) => range.end - range.start < MAX_PAGES * PAGE)
    .map((range) => rmrrConfig(machine, range));
  const booted = parseDmar({ ...config, rmrrs });
  const { lines } = booted;
  if (booted.config.iommuEnabled) return { iommuOn: true, lines, why: null };
  return { iommuOn: false, lines, why: lines.slice(-2).join(' / ') };
}

function bootAmd({ ranges, firmwareMap, mapKnown }: Machine): XenBoot {
  const overRam = ranges.find(
    (range) =>
      range.start <= range.end &&
      firmwareMap.some((region) => region.type === 'usable' && overlap(region, wholePages(range)) !== null),
  );
  if (!mapKnown || !overRam) return { iommuOn: true, lines: [], why: null };
  const line = `IVMD: [0x${hex(Math.floor(overRam.start / PAGE))}, 0x${hex(Math.floor(overRam.end / PAGE))}] is not (entirely) in reserved memory`;
  return { iommuOn: false, lines: [line], why: line };
}

/** Devices as the table names them; a path that is not resolved may lead to a device that is there, so the region counts. */
function rmrrConfig(machine: Machine, range: ReservedRange): RmrrConfig {
  const named = range.scopes.filter(isSingle).map(({ first }) => first);
  const present = machine.host.devices.map(({ sbdf }) => sbdf);
  const anyone = range.unresolved.length > 0 || !machine.devicesComplete ? present.slice(0, 1) : [];
  const wide = present.filter((sbdf) => covers(range, sbdf) && !named.includes(sbdf));
  const { start, end } = range;
  const inverted = end < start;
  return {
    startPfn: Math.floor(start / PAGE),
    endPfn: inverted ? Math.min(Math.floor(end / PAGE), Math.floor(start / PAGE) - 1) : Math.floor(end / PAGE),
    devices: [...named, ...wide, ...(named.some((sbdf) => present.includes(sbdf)) ? [] : anyone)],
  };
}

const bits64 = (n: number): string => `0x${hex(n).padStart(PREFIX - 2, '0')}`;

/** What a Linux kernel says of a region that its map does not reserve. */
export const linuxBrokenRmrr = ({ start, end }: ReservedRange): string[] => [
  `DMAR: [Firmware Bug]: No firmware reserved region can cover this RMRR [${bits64(start)}-${bits64(end)}], contact BIOS vendor for fixes`,
  `DMAR: [Firmware Bug]: Your BIOS is broken; bad RMRR [${bits64(start)}-${bits64(end)}]`,
];
