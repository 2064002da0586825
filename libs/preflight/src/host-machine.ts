// A machine from a host description (hosts/*.yaml): nothing is assumed, and what firmware wrote is what the description says.
import type { HostDescription } from '#formats/host-file';
import type { Sbdf } from '#model/frames/addresses';
import { bdfText, type DeviceFacts, type Machine } from './machine.ts';

export function machineOfHost(host: HostDescription): Machine {
  const facts = host.devices.map(({ sbdf, hasFlr }): [Sbdf, DeviceFacts] => [
    sbdf,
    { iommuGroup: null, driver: null, flr: hasFlr ? true : null, guessed: false },
  ]);
  return {
    host,
    iommu: host.iommuUnits.length > 0 ? 'VT-d' : 'none',
    tableFile: null,
    firmwareMap: host.memoryMap,
    mapKnown: true,
    devicesComplete: true,
    ranges: host.rmrrs.map(({ start, end, devices }, i) => ({
      kind: 'RMRR',
      start,
      end,
      place: `${host.file}, rmrrs[${i}]`,
      segment: Math.floor((devices[0] ?? 0) / 65536),
      scopes: devices.map((sbdf) => ({ first: sbdf, last: sbdf, text: bdfText(sbdf) })),
      unresolved: [],
      access: 'rw',
    })),
    facts: new Map(facts),
    assumptions: [],
    tableFindings: [],
    complaints: [],
  };
}
