// What a well-formed host description must also satisfy to be a machine that can exist and that Xen would boot on: its
// memory map, reserved regions, IOMMU scopes and BARs agree with each other. Owns those rules and their messages; the
// form of the file is host-file.ts's.
import { formatSbdf, type Sbdf } from '#model/frames/addresses';
import { type ParsedHost, ROM_INDEX, usableBytes } from './host-schema.ts';
import type { Path, YamlSource } from './yaml-source.ts';

const MIB = 2 ** 20;
const hex = (n: number): string => `0x${n.toString(16)}`;
const range = (r: { start: number; end: number }): string => `${hex(r.start)}–${hex(r.end)}`;

/** Notes every contradiction in `host` as a problem of `source`. */
export function checkHost(host: ParsedHost, source: YamlSource): void {
  checkMemoryMap(host, source);
  checkDevices(host, source);
  checkUnits(host, source);
  checkRmrrs(host, source);
  checkBars(host, source);
  checkMmioReadOnly(host, source);
  checkSharedGpus(host, source);
}

function checkMmioReadOnly(host: ParsedHost, source: YamlSource): void {
  for (const [i, r] of host.mmioReadOnly.entries()) {
    const path: Path = ['mmioReadOnly', i];
    const ram = host.memoryMap.find(({ start, end, type }) => type === 'usable' && start <= r.end && r.start <= end);
    if (r.end < r.start) {
      source.problem(path, `range ${range(r)} ends before it starts`, '`end` is the last byte, not a length');
    } else if (ram) {
      const remedy = 'name pages of a BAR, such as the one that holds a device’s MSI-X table';
      source.problem(path, `range ${range(r)} lies over RAM ${range(ram)}`, remedy);
    }
  }
}

function checkSharedGpus(host: ParsedHost, source: YamlSource): void {
  for (const [i, gpu] of host.sharedGpus.entries()) {
    const path: Path = ['sharedGpus', i];
    checkKnown(host, source, [...path, 'device'], gpu.device, 'a shared GPU');
    const device = host.devices.find(({ sbdf }) => sbdf === gpu.device);
    const aperture = device?.bars.find(({ index }) => index === gpu.apertureBar);
    if (host.sharedGpus.findIndex((other) => other.device === gpu.device) !== i) {
      source.problem([...path, 'device'], `${formatSbdf(gpu.device)} is listed twice`, 'remove one of the two');
    } else if (device && (!aperture || aperture.kind === 'io' || aperture.kind === 'rom')) {
      const remedy = 'name the BAR of memory through which CPUs reach graphics memory';
      source.problem([...path, 'apertureBar'], `BAR ${gpu.apertureBar} is no aperture`, remedy);
    } else if (aperture && aperture.size > gpu.graphicsMemoryMb * MIB) {
      const message = `${gpu.graphicsMemoryMb} MiB of graphics memory are less than the aperture`;
      source.problem([...path, 'graphicsMemoryMb'], message, `write at least ${Math.ceil(aperture.size / MIB)}`);
    }
  }
}

interface Placed {
  readonly start: number;
  readonly end: number;
  readonly path: Path;
}

/** Calls `found` for each range that begins inside an earlier one (by start). */
function eachOverlap<T extends Placed>(ranges: readonly T[], found: (later: T, earlier: T) => void): void {
  let widest: T | undefined;
  for (const next of ranges.toSorted((a, b) => a.start - b.start)) {
    if (widest && next.start <= widest.end) found(next, widest);
    if (!widest || next.end > widest.end) widest = next;
  }
}

function checkMemoryMap(host: ParsedHost, source: YamlSource): void {
  const regions = host.memoryMap.map((r, i) => ({ ...r, path: ['memoryMap', i] as Path }));
  for (const region of regions) {
    if (region.end < region.start) {
      source.problem(
        region.path,
        `region ${range(region)} ends before it starts`,
        '`end` is the last byte, not a length',
      );
    }
  }
  eachOverlap(regions, (later, earlier) => {
    const lines = `lines ${source.line(earlier.path)} and ${source.line(later.path)}`;
    source.problem(
      later.path,
      `regions ${range(earlier)} (${earlier.type}) and ${range(later)} (${later.type}) overlap (${lines})`,
      '`end` is the last byte of a region (inclusive): shorten one of the two',
    );
  });
  const ram = usableBytes(host.memoryMap);
  if (ram <= 0) {
    source.problem(['memoryMap'], 'no usable RAM in the memory map', 'give at least one region `type: usable`');
    return;
  }
  const totalMb = Math.floor(ram / MIB);
  const needMb = host.dom0.memoryMb + host.xenReservedMb;
  if (needMb > totalMb) {
    source.problem(
      ['dom0', 'memoryMb'],
      `dom0 (${host.dom0.memoryMb} MiB) and Xen (${host.xenReservedMb} MiB) need more than the host's ${totalMb} MiB`,
      `give dom0 at most ${Math.max(0, totalMb - host.xenReservedMb)} MiB`,
    );
  }
}

function checkDevices(host: ParsedHost, source: YamlSource): void {
  const first = new Map<Sbdf, number>();
  for (const [i, device] of host.devices.entries()) {
    const path: Path = ['devices', i];
    const earlier = first.get(device.sbdf);
    if (earlier !== undefined) {
      const line = source.line(['devices', earlier]);
      source.problem(
        [...path, 'sbdf'],
        `device ${formatSbdf(device.sbdf)} is already on line ${line}`,
        'remove one of the two',
      );
    } else first.set(device.sbdf, i);
    if (device.iommu !== undefined && !host.iommuUnits.some((u) => u.id === device.iommu)) {
      const ids = host.iommuUnits.map((u) => u.id).join(', ') || 'none';
      source.problem([...path, 'iommu'], `there is no IOMMU unit ${device.iommu}`, `units of this host: ${ids}`);
    }
    const covered = host.iommuUnits.some((u) => u.includeAll || u.devices?.includes(device.sbdf));
    if (host.iommuUnits.length > 0 && device.iommu === undefined && !covered) {
      const message = `no IOMMU unit covers ${formatSbdf(device.sbdf)}`;
      source.problem(path, message, 'add it to the `devices` of a unit, or give one unit `includeAll: true`');
    }
    checkRequests(host, source, i);
    if (device.upstreamBridge !== undefined) {
      checkKnown(host, source, [...path, 'upstreamBridge'], device.upstreamBridge, `upstream bridge`);
      if (device.upstreamBridge === device.sbdf) {
        source.problem([...path, 'upstreamBridge'], 'a device cannot be its own bridge', 'name the bridge above it');
      }
    }
  }
}

/** What its requests carry must not be mistaken for another's. */
function checkRequests(host: ParsedHost, source: YamlSource, index: number): void {
  const device = host.devices[index] as ParsedHost['devices'][number]; // the caller's loop index
  const path: Path = ['devices', index];
  const { sbdf, phantomStride, physicalFunction } = device;
  if (phantomStride !== undefined) {
    const ids = new Set<number>();
    for (let id = sbdf + phantomStride; id <= sbdf + 7 - (sbdf % 8); id += phantomStride) ids.add(id);
    const taken = host.devices.find((other) => ids.has(other.sbdf));
    if (taken || sbdf % 8 >= phantomStride) {
      source.problem(
        [...path, 'phantomStride'],
        taken
          ? `a phantom function of ${formatSbdf(sbdf)} is ${formatSbdf(taken.sbdf)}, which is a device of its own`
          : `${formatSbdf(sbdf)} has no room for phantom functions with a stride of ${phantomStride}`,
        'phantom functions take the function numbers that no device uses: choose a stride above the last of them',
      );
    }
  }
  if (physicalFunction !== undefined) {
    checkKnown(host, source, [...path, 'physicalFunction'], physicalFunction, 'physical function');
  }
}

function checkKnown(host: ParsedHost, source: YamlSource, path: Path, sbdf: Sbdf, role: string): void {
  if (host.devices.some((d) => d.sbdf === sbdf)) return;
  const known = host.devices.map((d) => formatSbdf(d.sbdf)).join(', ') || 'none';
  source.problem(path, `unknown device ${formatSbdf(sbdf)} as ${role}`, `add it to \`devices\`; there are: ${known}`);
}

function checkUnits(host: ParsedHost, source: YamlSource): void {
  const ids = new Map<number, number>();
  const owners = new Map<Sbdf, number>();
  let all: number | undefined;
  for (const [i, unit] of host.iommuUnits.entries()) {
    const path: Path = ['iommuUnits', i];
    const same = ids.get(unit.id);
    if (same !== undefined) {
      const line = source.line(['iommuUnits', same]);
      source.problem([...path, 'id'], `IOMMU unit ${unit.id} is already on line ${line}`, 'number the units 0, 1, 2 …');
    } else ids.set(unit.id, i);
    if (unit.includeAll && all !== undefined) {
      const line = source.line(['iommuUnits', all]);
      source.problem(
        [...path, 'includeAll'],
        `the unit on line ${line} already includes all`,
        'list the devices of one',
      );
    } else if (unit.includeAll) all = i;
    if (!unit.includeAll && !unit.devices?.length) {
      source.problem(path, `IOMMU unit ${unit.id} covers no device`, 'list `devices`, or set `includeAll: true`');
    }
    for (const [j, sbdf] of (unit.devices ?? []).entries()) {
      const place = [...path, 'devices', j];
      checkKnown(host, source, place, sbdf, `scope of IOMMU unit ${unit.id}`);
      const owner = owners.get(sbdf);
      if (owner !== undefined) {
        source.problem(place, `${formatSbdf(sbdf)} is already in the scope of unit ${owner}`, 'keep it in one scope');
      } else owners.set(sbdf, unit.id);
    }
  }
}

function checkRmrrs(host: ParsedHost, source: YamlSource): void {
  const ram = host.memoryMap.filter((r) => r.type === 'usable');
  const reserved = host.memoryMap.filter((r) => r.type === 'reserved').toSorted((a, b) => a.start - b.start);
  const placed = host.rmrrs.map((r, i) => ({ ...r, path: ['rmrrs', i] as Path }));
  for (const region of placed) {
    for (const [j, sbdf] of region.devices.entries()) {
      checkKnown(host, source, [...region.path, 'devices', j], sbdf, 'scope of a reserved region (RMRR)');
    }
    if (region.start > region.end) {
      source.problem(
        region.path,
        `RMRR base ${hex(region.start)} is above its limit ${hex(region.end)}`,
        'Xen disables VT-d on such firmware: swap the two, or remove the region',
      );
      continue;
    }
    // Holes and other types are fine: Xen reserves such pages when it boots, and says so.
    const there = ram.find((r) => r.start <= region.end && region.start <= r.end);
    if (!there || isCovered(region, reserved)) continue;
    source.problem(
      region.path,
      `RMRR ${range(region)} lies over RAM: ${hex(Math.max(there.start, region.start))} is usable`,
      `Xen disables VT-d on such firmware: make ${range(region)} \`type: reserved\` in memoryMap`,
    );
  }
  const forward = placed.filter((r) => r.start <= r.end);
  eachOverlap(forward, (later, earlier) => {
    source.problem(
      later.path,
      `RMRRs ${range(earlier)} (line ${source.line(earlier.path)}) and ${range(later)} overlap`,
      'Xen disables VT-d on such firmware: shorten one of the two',
    );
  });
}

/** Does `sorted` hold every byte of `wanted`? */
function isCovered(wanted: { start: number; end: number }, sorted: readonly { start: number; end: number }[]): boolean {
  let next = wanted.start;
  for (const r of sorted) if (r.start <= next && next <= r.end) next = r.end + 1;
  return next > wanted.end;
}

function checkBars(host: ParsedHost, source: YamlSource): void {
  const spaces = { io: [] as (Placed & { what: string })[], memory: [] as (Placed & { what: string })[] };
  for (const [i, device] of host.devices.entries()) {
    const indexes = new Set<number>();
    for (const [j, bar] of device.bars.entries()) {
      const path: Path = ['devices', i, 'bars', j];
      const what = `BAR ${bar.index} of ${formatSbdf(device.sbdf)}`;
      if (indexes.has(bar.index)) source.problem(path, `${what} is given twice`, 'give each BAR once');
      indexes.add(bar.index);
      if ((bar.kind === 'rom') !== (bar.index === ROM_INDEX)) {
        source.problem(path, `${what}: index ${ROM_INDEX} and \`kind: rom\` go together`, 'correct index or kind');
      }
      const least = bar.kind === 'io' ? 4 : 16;
      if (bar.size < least || !Number.isInteger(Math.log2(bar.size))) {
        source.problem(
          [...path, 'size'],
          `${what}: size ${hex(bar.size)} is not a power of two of at least ${least}`,
          'correct it',
        );
        continue;
      }
      if (bar.hostAddr % bar.size !== 0) {
        source.problem(
          [...path, 'hostAddr'],
          `${what}: ${hex(bar.hostAddr)} is not a multiple of its size`,
          'align it',
        );
      }
      const end = bar.hostAddr + bar.size - 1;
      if (bar.kind.startsWith('mem32') && end >= 2 ** 32) {
        source.problem([...path, 'hostAddr'], `${what} is 32-bit but ends above 4 GiB`, 'move it, or use mem64');
      }
      spaces[bar.kind === 'io' ? 'io' : 'memory'].push({ start: bar.hostAddr, end, path, what });
    }
  }
  for (const space of [spaces.io, spaces.memory]) {
    eachOverlap(space, (later, earlier) => {
      const lines = `lines ${source.line(earlier.path)} and ${source.line(later.path)}`;
      source.problem(later.path, `${later.what} overlaps ${earlier.what} (${lines})`, 'move one of the two');
    });
  }
  for (const bar of spaces.memory) {
    const ram = host.memoryMap.find((r) => r.type === 'usable' && r.start <= bar.end && bar.start <= r.end);
    if (!ram) continue;
    source.problem(
      bar.path,
      `${bar.what} (${range(bar)}) lies over RAM ${range(ram)}`,
      'place it outside usable memory',
    );
  }
}
