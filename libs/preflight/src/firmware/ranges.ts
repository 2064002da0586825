// The memory ranges that firmware's table, or the boot log where there is no table, keeps for devices: RMRRs of a DMAR table, IVMDs
// of an IVRS table. Owns the way from a table's words to ranges of addresses and of devices; judges nothing.
import type { DeviceScope } from '#formats/acpi/device-scope';
import type { DmarTable, Rmrr } from '#formats/acpi/dmar';
import type { Ivmd, IvrsTable } from '#formats/acpi/ivrs';
import { resolveScopePath, type SecondaryBuses } from '#formats/acpi/scope-path';
import type { LoggedRmrr } from '#formats/memory-map-log/memory-map-log';
import { formatSbdf, parseSbdf, type Sbdf, sbdf } from '#model/frames/addresses';
import type { DeviceRange, ReservedRange } from '../machine.ts';
import { hex } from '../ranges.ts';
import { tableNumber } from './inputs.ts';

const LAST_DEVICE = sbdf(0, 0xff, 0x1f, 7);

export const one = (device: Sbdf, text: string = formatSbdf(device)): DeviceRange => ({
  first: device,
  last: device,
  text,
});

const pathText = ({ start_bus, path }: DeviceScope): string =>
  `${start_bus.toString(16).padStart(2, '0')}:${path.join('/')}`;

/** Of the scopes of a structure, what is known and what is not. */
export function resolveScopes(
  segment: number,
  scopes: readonly DeviceScope[],
  buses: SecondaryBuses,
): { readonly known: DeviceRange[]; readonly unresolved: string[] } {
  const known: DeviceRange[] = [];
  const unresolved: string[] = [];
  for (const scope of scopes) {
    const found = resolveScopePath(segment, scope, buses);
    if ('sbdf' in found) known.push(one(found.sbdf, pathText(scope)));
    else unresolved.push(pathText(scope));
  }
  return { known, unresolved };
}

function rangeOfRmrr(rmrr: Rmrr, buses: SecondaryBuses): ReservedRange {
  const { known, unresolved } = resolveScopes(rmrr.segment, rmrr.scopes, buses);
  return {
    kind: 'RMRR',
    start: tableNumber(rmrr.base),
    end: tableNumber(rmrr.limit),
    place: `DMAR offset 0x${hex(rmrr.offset)}`,
    segment: rmrr.segment,
    scopes: known,
    unresolved,
    access: 'rw',
  };
}

export const rmrrsOf = (table: DmarTable, buses: SecondaryBuses): ReservedRange[] =>
  table.structures.filter((s) => s.type === 'RMRR').map((rmrr) => rangeOfRmrr(rmrr, buses));

/** Which devices an IVMD is for; type 22h goes over all buses between its two ids. */
function scopeOf({ applies_to, device_id, aux }: Ivmd): DeviceRange {
  const first = parseSbdf(device_id) ?? sbdf(0, 0, 0, 0);
  if (applies_to === 'select') return one(first, device_id);
  if (applies_to === 'all') return { first: sbdf(0, 0, 0, 0), last: LAST_DEVICE, text: 'all devices' };
  const last = parseSbdf(aux) ?? LAST_DEVICE;
  return { first, last, text: `all devices from ${device_id} to ${aux}` };
}

/** As Xen's parse_ivmd_block: an exclusion range is kept for reading and writing. */
function accessOf({ exclusion, read, write }: Ivmd): ReservedRange['access'] {
  if (exclusion || read === write) return 'rw';
  return read ? 'r' : 'w';
}

export const ivmdsOf = (table: IvrsTable): ReservedRange[] =>
  table.structures
    .filter((block) => block.type === 'IVMD')
    .map((ivmd) => ({
      kind: 'IVMD',
      start: tableNumber(ivmd.start),
      end: tableNumber(ivmd.end),
      place: `IVRS offset 0x${hex(ivmd.offset)}, type ${Number(ivmd.code).toString(16)}h`,
      segment: 0,
      scopes: [scopeOf(ivmd)],
      unresolved: [],
      access: accessOf(ivmd),
    }));

export const loggedRanges = (rmrrs: readonly LoggedRmrr[]): ReservedRange[] =>
  rmrrs.map(({ base, limit, devices, line }) => ({
    kind: 'RMRR',
    start: base,
    end: limit,
    place: `log line ${line}`,
    segment: 0,
    scopes: devices.flatMap((text) => {
      const device = parseSbdf(text);
      return device === null ? [] : [one(device, text)];
    }),
    unresolved: [],
    access: 'rw',
  }));
