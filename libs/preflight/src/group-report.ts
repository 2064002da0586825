// Devices that cannot be kept apart: those of one reserved range, those behind one bridge, those of one Linux group; and who can
// write what when they are given away under each policy. Knows no guest.
import type { Sbdf } from '#model/frames/addresses';
import { isBridge } from './device-report.ts';
import { bdfText, covers, isShared, type Machine, type ReservedRange } from './machine.ts';
import { rangeName } from './placed-range.ts';
import { bytesOf, rangeText, sizeText, wholePages } from './ranges.ts';

export interface GroupReport {
  readonly kind: 'reserved range' | 'bridge' | 'IOMMU group';
  readonly name: string;
  readonly members: readonly Sbdf[];
  readonly who: readonly { readonly policy: string; readonly what: string }[];
}

export function groupReports(machine: Machine): GroupReport[] {
  return [...rangeGroups(machine), ...bridgeGroups(machine), ...linuxGroups(machine)];
}

function rangeGroups(machine: Machine): GroupReport[] {
  const membersOf = (range: ReservedRange): Sbdf[] =>
    machine.host.devices.map(({ sbdf }) => sbdf).filter((sbdf) => covers(range, sbdf));
  const shared = machine.ranges.filter((range) => membersOf(range).length > 1 && range.start <= range.end);
  const alike = Map.groupBy(shared, (range) => membersOf(range).join());
  return [...alike.values()].flatMap((ranges): GroupReport[] => {
    const [first] = ranges;
    if (!first) return [];
    const name = ranges.map((range) => `${rangeName(range)} (${range.place})`).join(', ');
    const pages = ranges.length === 1 ? rangeText(first) : `the ${ranges.length} ranges`;
    const bytes = ranges.reduce((sum, range) => sum + bytesOf(wholePages(range)), 0);
    return [{ kind: 'reserved range', name, members: membersOf(first), who: whoWrites(pages, bytes, isShared(first)) }];
  });
}

/** `refused`: the hypervisor looks whether a region is shared; AMD-Vi does not. */
function whoWrites(pages: string, bytes: number, refused: boolean): GroupReport['who'] {
  const split = `what one writes into ${pages} the other reads: the two guests have ${sizeText(bytes)} of host memory in common, and so has dom0`;
  const strict = refused
    ? 'Xen refuses each of them to a guest (-EPERM); only dom0 and its devices reach the memory'
    : `nobody looks whether it is shared (AMD-Vi): each guest that gets one of them has ${pages} mapped; ${split}`;
  return [
    { policy: 'strict', what: strict },
    {
      policy: 'relaxed, all in one guest',
      what: `that guest and its devices write ${pages}; dom0 keeps its own mapping for ever`,
    },
    { policy: 'relaxed, in two guests', what: split },
    {
      policy: 'relaxed, the rest in dom0',
      what: `the guest can change what firmware and dom0’s devices keep in ${pages}`,
    },
  ];
}

function groupBy(machine: Machine, keyOf: (sbdf: Sbdf) => number | null): Map<number, Sbdf[]> {
  const groups = new Map<number, Sbdf[]>();
  for (const device of machine.host.devices) {
    const key = keyOf(device.sbdf);
    if (key === null || isBridge(device)) continue;
    groups.set(key, [...(groups.get(key) ?? []), device.sbdf]);
  }
  return new Map([...groups].filter(([, members]) => members.length > 1));
}

const PEERS = [
  { policy: 'in one guest', what: 'they write each other’s BARs, inside one guest' },
  {
    policy: 'in two guests, or partly in dom0',
    what: 'a device can write a sibling’s BARs without the IOMMU seeing it, unless bridge and functions separate them (ACS)',
  },
];

/** Xen’s get_device_group. */
function bridgeGroups(machine: Machine): GroupReport[] {
  const bridge = new Map(machine.host.devices.map(({ sbdf, upstreamBridge }) => [sbdf, upstreamBridge]));
  return [...groupBy(machine, (sbdf) => bridge.get(sbdf) ?? null)].map(([top, members]) => ({
    kind: 'bridge',
    name: `behind ${bdfText(top as Sbdf)}`, // the key is such a bridge
    members,
    who: PEERS,
  }));
}

function linuxGroups(machine: Machine): GroupReport[] {
  return [...groupBy(machine, (sbdf) => machine.facts.get(sbdf)?.iommuGroup ?? null)].map(([group, members]) => ({
    kind: 'IOMMU group',
    name: `Linux’s IOMMU group ${group}`,
    members,
    who: PEERS,
  }));
}
