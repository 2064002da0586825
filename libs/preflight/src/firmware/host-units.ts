// The remapping units of a machine from firmware's table, over the devices it is known to have: scopes of bridges opened up, the
// unit that takes all the rest. Owns that translation; what a unit can do comes from the boot log, or is assumed.
import type { DmarTable, Drhd } from '#formats/acpi/dmar';
import type { Ivhd, IvrsTable } from '#formats/acpi/ivrs';
import { resolveScopePath, type SecondaryBuses } from '#formats/acpi/scope-path';
import type { HostDevice, HostIommuUnit } from '#formats/host-file';
import { parseSbdf, type Sbdf } from '#model/frames/addresses';
import type { Bridges } from './bridges.ts';
import { AMD_CAPS, ASSUMED_CAPS, type UnitCaps } from './unit-capabilities.ts';

export interface UnitSources {
  readonly devices: readonly HostDevice[];
  readonly buses: SecondaryBuses;
  readonly bridges: Bridges;
  readonly caps: ReadonlyMap<string, UnitCaps>;
}

export interface Units {
  readonly units: readonly HostIommuUnit[];
  /** Units whose capabilities no log shows. */
  readonly assumed: readonly number[];
}

interface Draft {
  readonly caps: UnitCaps | null;
  readonly devices: Sbdf[];
  readonly segment: number;
  includeAll: boolean;
}

const segmentOf = (device: Sbdf): number => Math.floor(device / 65536);

export function unitsOfDmar(table: DmarTable, sources: UnitSources): Units {
  const taken = new Set<Sbdf>();
  const drafts = table.structures
    .filter((s) => s.type === 'DRHD')
    .map((unit): Draft => {
      const devices = unit.include_all ? [] : scopeDevices(unit, sources).filter((device) => !taken.has(device));
      for (const device of devices) taken.add(device);
      const caps = sources.caps.get(unit.register_base.slice('0x'.length)) ?? null;
      return { caps, devices, segment: unit.segment, includeAll: unit.include_all };
    });
  return finish(drafts, sources, taken, ASSUMED_CAPS);
}

/** Devices of a unit's scopes that the machine has; of a bridge also all below it. */
function scopeDevices(unit: Drhd, { devices, buses, bridges }: UnitSources): Sbdf[] {
  return unit.scopes.flatMap((scope): Sbdf[] => {
    if (scope.kind !== 'endpoint' && scope.kind !== 'bridge') return [];
    const found = resolveScopePath(unit.segment, scope, buses);
    if (!('sbdf' in found)) return [];
    const { sbdf } = found;
    const covered = scope.kind === 'bridge' ? (d: Sbdf) => bridges.isBelow(d, sbdf) : (d: Sbdf) => d === sbdf;
    return devices.map((device) => device.sbdf).filter(covered);
  });
}

/** A table tells each unit up to three times; the last telling is the fullest. */
export function unitsOfIvrs(table: IvrsTable, sources: UnitSources): Units {
  const byAddress = new Map<string, Ivhd>();
  for (const block of table.structures) {
    if (block.type === 'IVHD') byAddress.set(`${block.segment} ${block.iommu_base} ${block.device_id}`, block);
  }
  const taken = new Set<Sbdf>();
  const drafts = [...byAddress.values()].map((block): Draft => {
    const { includeAll, covers } = coverageOf(block);
    const devices = sources.devices.map(({ sbdf }) => sbdf).filter((device) => covers(device) && !taken.has(device));
    for (const device of devices) taken.add(device);
    return { caps: AMD_CAPS, devices, segment: block.segment, includeAll };
  });
  return finish(drafts, sources, taken, AMD_CAPS);
}

/** Entries 1 all, 2 (42h, 46h) one device, 3 (43h, 47h) to 4 a range. */
function coverageOf({ entries, segment }: Ivhd): { includeAll: boolean; covers(device: Sbdf): boolean } {
  const ranges: { first: number; last: number }[] = [];
  let open: number | null = null;
  let includeAll = false;
  for (const { type, id } of entries) {
    const at = parseSbdf(id);
    const kind = Number(type) & 0xf;
    if (at === null || Number(type) >= 0x48) continue;
    if (kind === 1) includeAll = true;
    else if (kind === 2 || kind === 6) ranges.push({ first: at, last: at });
    else if (kind === 3 || kind === 7) open = at;
    else if (kind === 4 && open !== null) {
      ranges.push({ first: open, last: at });
      open = null;
    }
  }
  const covers = (device: Sbdf): boolean =>
    segmentOf(device) === segment &&
    ranges.some(({ first, last }) => first <= device % 65536 && device % 65536 <= last);
  return { includeAll, covers };
}

/** At most one unit takes all; whatever none covers goes to that one, else to the last. */
function finish(drafts: Draft[], { devices }: UnitSources, taken: Set<Sbdf>, assumedCaps: UnitCaps): Units {
  for (const draft of drafts.filter(({ includeAll }) => includeAll).slice(1)) {
    draft.includeAll = false;
    for (const { sbdf } of devices) {
      if (segmentOf(sbdf) !== draft.segment || taken.has(sbdf)) continue;
      draft.devices.push(sbdf);
      taken.add(sbdf);
    }
  }
  const last = drafts.at(-1);
  if (last && !drafts.some(({ includeAll }) => includeAll)) last.includeAll = true;
  const kept = drafts.filter((draft) => draft.includeAll || draft.devices.length > 0);
  return {
    units: kept.map(({ caps, devices: scope, includeAll }, id) => ({
      id,
      caps: caps ?? assumedCaps,
      devices: scope,
      includeAll,
    })),
    assumed: kept.flatMap(({ caps }, id) => (caps === null ? [id] : [])),
  };
}
