// A machine from what firmware and the running system say of it: DMAR or IVRS table, boot log, lspci listing. Whatever is missing is
// assumed, and every assumption is told. The host description in it is what Xen would make of these: reserved ranges that lie in
// holes of the map are reserved, ranges that Xen would stumble over are left out (and told by the findings).
import type { TableFinding } from '#formats/acpi/finding';
import { ivmdFindings } from '#formats/acpi/ivmd-findings';
import { rmrrFindings } from '#formats/acpi/rmrr-findings';
import { secondaryBusesOf } from '#formats/acpi/scope-path';
import {
  type HostDescription,
  type HostDevice,
  type HostIommuUnit,
  type HostRegion,
  type HostRmrr,
} from '#formats/host-file';
import { type Lspci, parseLspci } from '#formats/lspci';
import { type MemoryMapLog, parseMemoryMapLog } from '#formats/memory-map-log/memory-map-log';
import type { Sbdf } from '#model/frames/addresses';
import {
  type Assumption,
  bdfText,
  covers,
  type DeviceFacts,
  isSingle,
  type Machine,
  type ReservedRange,
} from '../machine.ts';
import { counted, MIB, overlap, rangeText, sizeText, wholePages } from '../ranges.ts';
import { Bridges } from './bridges.ts';
import { devicesOfListing, GUESSED, guessedDevice } from './host-devices.ts';
import { assumedMap, mapOfLog, ramBytes, reserve } from './host-map.ts';
import { type Units, unitsOfDmar, unitsOfIvrs } from './host-units.ts';
import type { FirmwareInputs } from './inputs.ts';
import { ivmdsOf, loggedRanges, rmrrsOf } from './ranges.ts';
import { capabilitiesInLog } from './unit-capabilities.ts';

/** A map with less RAM is no map of a host that runs Xen. */
const LEAST_RAM = 256 * MIB;
const DEFAULT_PCPUS = 4;
const MAX_DOM0_MB = 4096;
const MAX_ADDRESS = 2 ** 52 - 1;
const UNIT_MB: Readonly<Record<string, number>> = { '': 2 ** -10, k: 2 ** -10, m: 1, g: 2 ** 10 };

export function machineOfFirmware(inputs: FirmwareInputs): Machine {
  return new FirmwareReader(inputs).machine();
}

class FirmwareReader {
  readonly #inputs: FirmwareInputs;
  readonly #assumptions: Assumption[] = [];
  readonly #complaints: string[] = [];
  readonly #log: MemoryMapLog | null;
  readonly #listing: Lspci;
  readonly #ranges: readonly ReservedRange[];

  constructor(inputs: FirmwareInputs) {
    this.#inputs = inputs;
    const { dmar, ivrs, log, lspci } = inputs;
    this.#log = log ? parseMemoryMapLog(log.text) : null;
    this.#listing = lspci ? parseLspci(lspci.text) : { devices: [], problems: [] };
    for (const { line, message } of this.#log?.problems ?? [])
      this.#complaints.push(`${log?.file}:${line}: ${message}`);
    for (const { line, message } of this.#listing.problems) this.#complaints.push(`${lspci?.file}:${line}: ${message}`);
    const table = dmar ?? ivrs;
    for (const anomaly of table?.table.anomalies ?? []) this.#complaints.push(`${table?.file}: ${anomaly}`);
    const buses = secondaryBusesOf(this.#listing.devices);
    if (dmar) this.#ranges = rmrrsOf(dmar.table, buses);
    else this.#ranges = ivrs ? ivmdsOf(ivrs.table) : loggedRanges(this.#log?.rmrrs ?? []);
  }

  machine(): Machine {
    const { name, dmar, ivrs, lspci } = this.#inputs;
    const logged = mapOfLog(this.#log?.map ?? []);
    const mapKnown = ramBytes(logged) >= LEAST_RAM;
    if (!mapKnown) this.#assumeMap(logged.length > 0);
    const firmwareMap = mapKnown ? logged : assumedMap(this.#ranges);
    const tableFindings = this.#tableFindings(mapKnown ? logged : null);
    const accepted = this.#ranges.filter((range) => this.#isAccepted(range, firmwareMap));
    const memoryMap = accepted.reduce((map, range) => reserve(map, wholePages(range)), firmwareMap);
    const listed = devicesOfListing(this.#listing, memoryMap);
    const facts = new Map<Sbdf, DeviceFacts>(listed.facts);
    const found = [...listed.devices, ...this.#guessedDevices(listed.devices, listed.complete, facts)];
    if (listed.moved.length > 0) {
      const which = listed.moved.map(bdfText).join(', ');
      this.#assume('devices', `the listing shows no usable address for some BARs of ${which}: free ones were taken`);
    }
    const units = this.#units(found);
    const devices = found.map((device): HostDevice => ({ ...device, iommu: unitOf(units, device.sbdf) }));
    return {
      host: this.#description(name, memoryMap, devices, units, accepted),
      iommu: dmar ? 'VT-d' : ivrs ? 'AMD-Vi' : units.length > 0 ? 'VT-d' : 'none',
      tableFile: (dmar ?? ivrs)?.file ?? null,
      firmwareMap,
      mapKnown,
      devicesComplete: lspci !== undefined && listed.complete,
      ranges: this.#ranges,
      facts,
      assumptions: this.#assumptions,
      tableFindings,
      complaints: this.#complaints,
    };
  }

  #assume(about: Assumption['about'], text: string): void {
    this.#assumptions.push({ about, text });
  }

  #assumeMap(tooSmall: boolean): void {
    const { log } = this.#inputs;
    const why =
      log === undefined
        ? 'no boot log was given'
        : `${log.file} has ${tooSmall ? 'too little RAM in its' : 'no'} memory map`;
    this.#assume('memoryMap', `${why}: 16 GiB with the usual hole below 4 GiB are assumed`);
  }

  #tableFindings(map: readonly HostRegion[] | null): TableFinding[] {
    const { dmar, ivrs } = this.#inputs;
    if (dmar) return rmrrFindings(dmar.table, map ?? undefined);
    return ivrs ? ivmdFindings(ivrs.table, map ?? undefined) : [];
  }

  /** Whether Xen would keep the range: the right way round, inside the address space, over no RAM and no other range. */
  #isAccepted(range: ReservedRange, map: readonly HostRegion[]): boolean {
    const drop = (why: string): boolean => {
      this.#assume('rmrrs', `${range.kind} ${rangeText(range)} (${range.place}) is left out: ${why}`);
      return false;
    };
    if (range.start > range.end) return drop('its base is above its limit');
    if (range.end > MAX_ADDRESS) return drop('it reaches beyond the address space');
    const pages = wholePages(range);
    if (map.some((region) => region.type === 'usable' && overlap(region, pages) !== null)) {
      return drop('it lies over RAM of the host');
    }
    const earlier = this.#ranges.slice(0, this.#ranges.indexOf(range));
    if (
      range.kind === 'RMRR' &&
      earlier.some((other) => other.start <= other.end && overlap(wholePages(other), pages) !== null)
    ) {
      return drop('it overlaps an earlier one');
    }
    return true;
  }

  /** Devices that only the table names, unless the listing is whole: then they do not exist. */
  #guessedDevices(listed: readonly HostDevice[], complete: boolean, facts: Map<Sbdf, DeviceFacts>): HostDevice[] {
    const { lspci } = this.#inputs;
    if (complete) return [];
    const named = new Set<Sbdf>();
    for (const { scopes } of this.#ranges) for (const range of scopes) if (isSingle(range)) named.add(range.first);
    const guessed = [...named].filter((sbdf) => !listed.some((device) => device.sbdf === sbdf)).sort((a, b) => a - b);
    for (const sbdf of guessed) facts.set(sbdf, GUESSED);
    if (guessed.length > 0 || lspci === undefined) {
      const why = lspci === undefined ? 'no lspci listing was given' : `${lspci.file} is an excerpt`;
      const which =
        guessed.length === 0
          ? 'no device is known'
          : `${guessed.map(bdfText).join(', ')} are known by firmware's table only`;
      this.#assume('devices', `${why}: ${which}, without BARs and names`);
    }
    return guessed.map((sbdf) => guessedDevice(sbdf, 'firmware’s table'));
  }

  #units(devices: readonly HostDevice[]): readonly HostIommuUnit[] {
    const { dmar, ivrs, log } = this.#inputs;
    const caps = capabilitiesInLog(log?.text ?? '');
    const sources = {
      devices,
      buses: secondaryBusesOf(this.#listing.devices),
      bridges: new Bridges(this.#listing.devices),
      caps,
    };
    if (ivrs) {
      this.#assume('iommu', 'AMD-Vi never shares the CPU’s tables; units without 1G pages have the same effect here');
      return unitsOfIvrs(ivrs.table, sources).units;
    }
    const found: Units | null = dmar ? unitsOfDmar(dmar.table, sources) : this.#unitsOfLog([...caps.values()]);
    if (found === null) {
      this.#assume(
        'iommu',
        'neither a DMAR or IVRS table nor a remapping unit in the log was given: a host without IOMMU',
      );
      return [];
    }
    if (found.assumed.length > 0) {
      const which = counted(found.assumed.length, 'unit');
      this.#assume(
        'iommu',
        `the log does not show the capabilities of ${which} (\`DMAR: dmar0: reg_base_addr … cap …\`): 2M and 1G pages are assumed`,
      );
    }
    return found.units;
  }

  #unitsOfLog(caps: readonly HostIommuUnit['caps'][]): Units | null {
    const [first, ...rest] = caps;
    const weakest = rest.reduce((a, b) => (b.superpages.length < (a?.superpages.length ?? 0) ? b : a), first);
    if (!weakest) return null;
    this.#assume(
      'iommu',
      'without a DMAR table it is not known which unit serves which device: one unit, the weakest of the log, serves all',
    );
    return { units: [{ id: 0, caps: weakest, devices: [], includeAll: true }], assumed: [] };
  }

  #description(
    name: string,
    memoryMap: readonly HostRegion[],
    devices: readonly HostDevice[],
    units: readonly HostIommuUnit[],
    accepted: readonly ReservedRange[],
  ): HostDescription {
    const { dmar, ivrs, log, lspci } = this.#inputs;
    const files = [(dmar ?? ivrs)?.file, log?.file, lspci?.file].filter((file) => file !== undefined);
    const totalMb = Math.floor(ramBytes(memoryMap) / MIB);
    const xenReservedMb = Math.min(96 + Math.ceil(totalMb / 64), Math.floor(totalMb / 3));
    return {
      file: files.join(', '),
      name,
      source: `made by hostloom host import from ${files.join(', ')}`,
      memoryMap,
      pcpus: this.#pcpus(),
      dom0: { memoryMb: Math.min(this.#dom0Mb(totalMb), totalMb - xenReservedMb), vcpus: 2 },
      hap: true,
      ept: { superpages: ['2M', '1G'] },
      iommuUnits: units,
      quarantine: 'basic',
      devices,
      rmrrs: this.#hostRmrrs(accepted, devices),
      xenReservedMb,
      heapLimitMb: null,
      rmrrOption: null,
      mmioReadOnly: [],
      sharedGpus: [],
      busSpaceMb: 0,
    };
  }

  #hostRmrrs(accepted: readonly ReservedRange[], devices: readonly HostDevice[]): HostRmrr[] {
    const kept = accepted.flatMap((range) => {
      const scope = devices.map(({ sbdf }) => sbdf).filter((sbdf) => covers(range, sbdf));
      if (scope.length > 0) return [{ ...wholePages(range), devices: scope }];
      const which = `${range.kind} ${rangeText(range)} (${range.place}, ${sizeText(range.end - range.start + 1)})`;
      this.#assume('rmrrs', `${which} is for no device that is known here: kept as reserved memory only`);
      return [];
    });
    return joinOverlaps(kept);
  }

  #pcpus(): number {
    const text = this.#inputs.log?.text ?? '';
    const match = /Allowing (\d{1,4}) CPUs|Brought up (?:\d+ nodes?, )?(\d{1,4}) CPUs/.exec(text);
    const found = Number(match?.[1] ?? match?.[2] ?? 0);
    if (found >= 1 && found <= 1024) return found;
    this.#assume('cpu', `the log does not tell how many CPUs there are: ${DEFAULT_PCPUS} are assumed`);
    return DEFAULT_PCPUS;
  }

  #dom0Mb(totalMb: number): number {
    const match = /\bdom0_mem=(?:max:|min:)?(\d{1,12})([kmg]?)/i.exec(this.#inputs.log?.text ?? '');
    const given = Math.floor(Number(match?.[1] ?? 0) * (UNIT_MB[(match?.[2] ?? '').toLowerCase()] ?? 0));
    if (given >= 128) return given;
    const assumed = Math.max(1, Math.min(MAX_DOM0_MB, Math.floor(totalMb / 4)));
    this.#assume(
      'memory',
      `the log shows no dom0_mem=: dom0 is given ${assumed} MiB; what Xen keeps for itself is estimated`,
    );
    return assumed;
  }
}

/** AMD's ranges may lie over each other: Xen then makes one of them. */
function joinOverlaps(ranges: readonly HostRmrr[]): HostRmrr[] {
  const out: HostRmrr[] = [];
  for (const range of ranges.toSorted((a, b) => a.start - b.start)) {
    const last = out.at(-1);
    if (!last || range.start > last.end) out.push(range);
    else {
      const devices = [...new Set([...last.devices, ...range.devices])];
      out[out.length - 1] = { start: last.start, end: Math.max(last.end, range.end), devices };
    }
  }
  return ranges.every((range) => out.includes(range)) ? [...ranges] : out;
}

const unitOf = (units: readonly HostIommuUnit[], sbdf: Sbdf): number | null =>
  (units.find((unit) => unit.devices.includes(sbdf)) ?? units.find((unit) => unit.includeAll))?.id ?? null;
