// A device with reserved memory (RMRR): where the region lies in the guest's map, what the p2m has there, and what that means for
// the device and for the guest. Told wherever a guest of the scenario is given such a device.

import type { HostRmrr } from '#formats/host-file';
import { formatSbdf } from '#model/frames/addresses';
import type { MemoryMapEntry } from '#model/hypercall/calls';
import type { Explanation, ReportTable } from '#report/verdict';
import type { Snapshot } from '../runner/snapshot.ts';
import { guestName, notableLines } from '../runner/telling.ts';
import type { TwinState } from '../runner/twin-state.ts';

const PAGE = 4096;
const LINES_MAX = 6;
const E820_NAMES: Readonly<Record<number, string>> = { 1: 'usable', 2: 'reserved', 3: 'ACPI', 4: 'NVS', 5: 'unusable' };

const hex = (n: number): string => n.toString(16).padStart(8, '0');

export function explainReserved(state: TwinState, snapshot: Snapshot | null): Explanation | null {
  const asked = state.twin.timeline.some((step) => step.do === 'gpu-dma' && step.gfn === 'rmrr');
  const focus = snapshot?.focus;
  if (!asked || !snapshot || !focus) return null;
  const devices = state.twin.timeline.flatMap((step) => (step.do === 'gpu-dma' ? [step.device] : []));
  const region = state.twin.host.rmrrs.find((rmrr) => rmrr.devices.some((device) => devices.includes(device)));
  if (!region) return null;
  const over = ramOver(focus.e820 ?? [], region);
  return {
    title:
      over > 0
        ? 'Why the guest’s data is gone: its RAM lies over reserved memory'
        : 'Why it works: no RAM lies over the reserved memory',
    paragraphs: paragraphs(state, snapshot, region, over),
    tables: [mapTable(focus.e820 ?? [], region), ...linesTable(state)],
  };
}

/** Bytes of RAM in the guest's map that lie in the region. */
function ramOver(map: readonly MemoryMapEntry[], { start, end }: HostRmrr): number {
  return map.reduce((sum, { addr, size, type }) => {
    const overlap = Math.min(addr + size, end + 1) - Math.max(addr, start);
    return type === 1 && overlap > 0 ? sum + overlap : sum;
  }, 0);
}

function paragraphs(state: TwinState, snapshot: Snapshot, region: HostRmrr, over: number): string[] {
  const gfn = Math.floor(region.start / PAGE);
  const peek = snapshot.peeks.get(gfn);
  const guest = snapshot.focus?.guest ?? '';
  const devices = region.devices.map(formatSbdf).join(', ');
  const intro =
    `Firmware reserves \`${hex(region.start)}-${hex(region.end)}\` for \`${devices}\`: the device may use it at any time, by host addresses. ` +
    'For a guest that owns the device the same guest addresses must lead to the same host frames (gfn = mfn).';
  const entry = peek ? `\`${peek.p2mType}\`, mfn \`0x${Math.max(0, peek.mfn).toString(16)}\`` : 'not looked at';
  if (over === 0) {
    return [
      intro,
      `${guest}'s RAM stays off the region, so Xen could put identity entries there: the p2m entry of gfn \`0x${gfn.toString(16)}\` is ${entry}. ` +
        'The device reaches its own memory, and no frame of the guest.',
    ];
  }
  const crash = state.observer
    .guests()
    .findLast((seen) => seen.panic !== null && guestName(state, seen.domid) === guest);
  return [
    intro,
    `${guest} has ${Math.round(over / 2 ** 20)} MiB of RAM at those very addresses. The p2m entry of gfn \`0x${gfn.toString(16)}\` is ${entry}: ` +
      'it was taken when the device came, so Xen could not put an identity entry there and, under the relaxed policy, went on without it.',
    'The device does not know. It writes to its reserved memory, the IOMMU translates the address as it translates all of the guest’s, and the ' +
      'write lands in a frame that holds the guest’s data. The firmware’s own frame is never reached. Nothing faults: every table is consistent.',
    ...(crash?.panic ? [`${guest} noticed when it read its memory back: \`${crash.panic}\`.`] : []),
    'What prevents it: a hole in the guest’s RAM there (`mmio_hole`, or a lower `rdm_mem_boundary`), or a strict policy that refuses to build the guest.',
  ];
}

function mapTable(map: readonly MemoryMapEntry[], { start, end }: HostRmrr): ReportTable {
  const rows = map.map(({ addr, size, type }) => {
    const inside = addr <= end && addr + size > start;
    return [
      hex(addr),
      hex(addr + size - 1),
      E820_NAMES[type] ?? `${type}`,
      inside ? (type === 1 ? 'RAM over the RMRR' : 'the RMRR') : '',
    ];
  });
  return {
    caption: `The guest's memory map and the reserved region ${hex(start)}-${hex(end)}`,
    head: ['start', 'end', 'type', ''],
    rows,
  };
}

function linesTable(state: TwinState): ReportTable[] {
  const lines = notableLines(state).slice(0, LINES_MAX);
  return lines.length === 0
    ? []
    : [{ caption: 'What Xen said', head: ['xl dmesg'], rows: lines.map((line) => [line]) }];
}
