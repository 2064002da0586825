// A host description as the text of a hosts/*.yaml file, with every assumption as a comment where it matters. Owns the layout of
// the written file; its meaning is host-file.ts's, which must read it back as the same description.
import type { HostBar, HostDescription, HostDevice, HostIommuUnit } from '#formats/host-file';
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import type { Assumption, Machine } from './machine.ts';

const WIDTH = 128;
const UNITS: readonly (readonly [string, number])[] = [
  ['G', 2 ** 30],
  ['M', 2 ** 20],
  ['K', 2 ** 10],
];

const hex = (n: number): string => `0x${n.toString(16)}`;
/** A double-quoted scalar: JSON's escapes are YAML's. */
const quoted = (text: string): string => JSON.stringify(text);

function sizeOf(bytes: number): string {
  const unit = UNITS.find(([, size]) => bytes % size === 0);
  return unit ? `${bytes / unit[1]}${unit[0]}` : `${bytes}`;
}

/** Words in lines of at most WIDTH characters, each with `prefix`. */
function wrapped(text: string, prefix: string): string[] {
  const lines: string[] = [];
  let line = prefix;
  for (const word of text.split(/\s+/)) {
    if (line.length > prefix.length && line.length + word.length + 1 > WIDTH) {
      lines.push(line);
      line = prefix;
    }
    line += line.length === prefix.length ? word : ` ${word}`;
  }
  return [...lines, line];
}

const sbdfList = (sbdfs: readonly Sbdf[]): string => `[${sbdfs.map(formatSbdf).join(', ')}]`;

export function hostYaml(machine: Machine): string {
  const { host, assumptions } = machine;
  const said = (about: Assumption['about']): string[] =>
    assumptions.filter((a) => a.about === about).flatMap(({ text }) => wrapped(`Assumed: ${text}.`, '# '));
  const lines = [
    ...wrapped(
      `Written by hostloom.${assumptions.length > 0 ? ' Lines that begin with "Assumed" say what the given files did not tell.' : ''}`,
      '# ',
    ),
    `name: ${quoted(host.name)}`,
    'source: >-',
    ...wrapped(host.source, '  '),
    '',
    ...said('memoryMap'),
    'memoryMap:',
    ...host.memoryMap.map(({ start, end, type }) => `  - { start: ${hex(start)}, end: ${hex(end)}, type: ${type} }`),
    '',
    ...said('cpu'),
    `pcpus: ${host.pcpus}`,
    ...said('memory'),
    `dom0: { memoryMb: ${host.dom0.memoryMb}, vcpus: ${host.dom0.vcpus} }`,
    `xenReservedMb: ${host.xenReservedMb}`,
    ...(host.heapLimitMb === null ? [] : [`heapLimitMb: ${host.heapLimitMb}`]),
    ...(host.rmrrOption === null ? [] : [`rmrr: ${quoted(host.rmrrOption)}`]),
    `hap: ${host.hap}`,
    `ept: { superpages: [${host.ept.superpages.join(', ')}] }`,
    '',
    ...said('iommu'),
    ...listOf('iommuUnits', host.iommuUnits.flatMap(unitLines)),
    `quarantine: ${host.quarantine}`,
    '',
    ...said('devices'),
    ...listOf('devices', host.devices.flatMap(deviceLines)),
    '',
    ...said('rmrrs'),
    ...listOf('rmrrs', rmrrLines(host)),
    ...(host.mmioReadOnly.length === 0 ? [] : listOf('mmioReadOnly', host.mmioReadOnly.map(rangeLine))),
    ...(host.mmioReadOnly.length === 0 ? [] : listOf('mmioReadOnly', mmioLines(host))),
  ];
  return `${lines.join('\n')}\n`;
}

const listOf = (key: string, lines: readonly string[]): string[] =>
  lines.length === 0 ? [`${key}: []`] : [`${key}:`, ...lines];

const mmioLines = (host: HostDescription): string[] =>
  host.mmioReadOnly.map(({ start, end }) => `  - { start: ${hex(start)}, end: ${hex(end)} }`);

function unitLines({ id, caps, devices, includeAll }: HostIommuUnit): string[] {
  const { superpages, snoop, cachingMode, psi, maxAm, agaw, ats, rwbf, domainIds, queuedInvalidation } = caps;
  const flags = Object.entries({ snoop, cachingMode, psi, ats, rwbf }).flatMap(([name, on]) =>
    on ? [`${name}: true`] : [],
  );
  const all = [
    `superpages: [${superpages.join(', ')}]`,
    `agaw: ${agaw}`,
    ...flags,
    `maxAm: ${Math.min(maxAm, 52)}`,
    `domainIds: ${domainIds}`,
  ];
  if (!queuedInvalidation) all.push('queuedInvalidation: false');
  return [
    `  - id: ${id}`,
    `    caps: { ${all.join(', ')} }`,
    ...(devices.length > 0 ? [`    devices: ${sbdfList(devices)}`] : []),
    ...(includeAll ? ['    includeAll: true'] : []),
  ];
}

function deviceLines(device: HostDevice): string[] {
  const { sbdf, name, vendor, pciClass, upstreamBridge, hasFlr, bars, kind, secondaryBus, ats, hotplug } = device;
  const { iommu, phantomStride, physicalFunction } = device;
  const id = [vendor, device.device].map((n) => n.toString(16).padStart(4, '0')).join(':');
  return [
    `  - sbdf: ${formatSbdf(sbdf)}`,
    `    name: ${quoted(name)}`,
    `    id: ${quoted(id)}`,
    `    class: 0x${pciClass.toString(16).padStart(6, '0')}`,
    ...(iommu === null ? [] : [`    iommu: ${iommu}`]),
    ...(upstreamBridge === null ? [] : [`    upstreamBridge: ${formatSbdf(upstreamBridge)}`]),
    ...(hasFlr ? ['    hasFlr: true'] : []),
    ...(kind === null ? [] : [`    kind: ${kind}`]),
    ...(secondaryBus === null ? [] : [`    secondaryBus: ${secondaryBus}`]),
    ...(ats ? ['    ats: true'] : []),
    ...(phantomStride === null ? [] : [`    phantomStride: ${phantomStride}`]),
    ...(physicalFunction === null ? [] : [`    physicalFunction: ${formatSbdf(physicalFunction)}`]),
    ...(hotplug ? ['    hotplug: true'] : []),
    ...(bars.length === 0 ? [] : ['    bars:', ...bars.map(barLine)]),
  ];
}

const barLine = ({ index, size, kind, hostAddr }: HostBar): string =>
  `      - { index: ${index}, size: ${sizeOf(size)}, kind: ${kind}, hostAddr: ${hex(hostAddr)} }`;

const rangeLine = ({ start, end }: { start: number; end: number }): string =>
  `  - { start: ${hex(start)}, end: ${hex(end)} }`;

const rmrrLines = ({ rmrrs }: HostDescription): string[] =>
  rmrrs.flatMap(({ start, end, devices }) => {
    const line = `  - { start: ${hex(start)}, end: ${hex(end)}, devices: ${sbdfList(devices)} }`;
    if (line.length <= WIDTH) return [line];
    return [
      `  - start: ${hex(start)}`,
      `    end: ${hex(end)}`,
      '    devices:',
      ...devices.map((d) => `      - ${formatSbdf(d)}`),
    ];
  });
