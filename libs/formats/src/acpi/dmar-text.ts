// A DMAR table as a person reads it: one line a structure, its devices below it, then what is worth knowing. Owns the words and
// the columns.
import { formatSbdf } from '#model/frames/addresses';
import { sizeText } from '../memory-map-log/inspection.ts';
import type { DeviceScope } from './device-scope.ts';
import type { DmarStructure, DmarTable } from './dmar.ts';
import type { HostMapRegion } from './host-regions.ts';
import { rmrrFindings } from './rmrr-findings.ts';
import { resolveScopePath, type SecondaryBuses } from './scope-path.ts';
import { findingLines, headerLine, row } from './table-text.ts';

export interface DmarTextOptions {
  /** From an lspci of the same machine. */
  readonly secondaryBuses?: SecondaryBuses;
  readonly map?: readonly HostMapRegion[];
}

const FLAGS = ['interrupt remapping', 'asks not to use x2APIC', 'asks for DMA protection'];

export function dmarText(table: DmarTable, { secondaryBuses, map }: DmarTextOptions = {}): string {
  const flags = FLAGS.filter((_, bit) => (table.flags & (1 << bit)) !== 0);
  let rmrr = 0;
  const structures = table.structures.flatMap((structure) => {
    const name = structure.type === 'RMRR' ? `RMRR ${rmrr++}` : structure.type;
    const scopes = 'scopes' in structure ? structure.scopes : [];
    const segment = 'segment' in structure ? structure.segment : 0;
    return [
      row(structure.offset, name, structureText(structure)),
      ...scopes.map((scope) => row(null, '', scopeText(segment, scope, secondaryBuses))),
    ];
  });
  return [
    headerLine(table.header),
    `host addresses of ${table.host_address_width} bits${flags.length === 0 ? '' : `; ${flags.join(', ')}`}`,
    '',
    row('offset', 'type', 'what'),
    ...structures,
    ...findingLines(rmrrFindings(table, map), table.anomalies),
  ].join('\n');
}

const digits = (hexadecimal: string): string => hexadecimal.slice(2);

function structureText(s: DmarStructure): string {
  const where = 'segment' in s && s.segment !== 0 ? `, segment ${s.segment}` : '';
  switch (s.type) {
    case 'DRHD': {
      const size = s.size_field === undefined ? '' : ` (${sizeText(2 ** s.size_field * 4096)})`;
      return `unit with registers at ${digits(s.register_base)}${size}${where}${s.include_all ? '; all devices that no other has' : ''}`;
    }
    case 'RMRR':
      return `${digits(s.base)}-${digits(s.limit)}  ${s.size > 0 ? sizeText(s.size) : 'no range'}${where}`;
    case 'ATSR':
      return `address translation services${where}${s.all_ports ? ' below all root ports' : ' below'}`;
    case 'RHSA':
      return `unit at ${digits(s.register_base)} is near NUMA node ${s.proximity}`;
    case 'ANDD':
      return `ACPI device ${s.device_number} is ${s.name}`;
    case 'SATC':
      return `devices with an address translation cache${where}${(s.flags & 1) === 0 ? '' : ' that need it on'}`;
    case 'SIDP':
      return `properties of devices inside the SoC${where}`;
    case 'UNKNOWN':
      return `type ${s.code}, ${s.length} bytes: ${s.raw}`;
  }
}

function scopeText(segment: number, scope: DeviceScope, secondaryBuses: SecondaryBuses | undefined): string {
  const number = scope.kind === 'endpoint' || scope.kind === 'bridge' ? '' : ` ${scope.enum_id}`;
  const flags = scope.flags === undefined ? '' : `  flags 0x${scope.flags.toString(16)}`;
  const name = scope.kind === 'unknown' ? `scope type ${scope.type}` : `${scope.kind}${number}`;
  return `${name} ${scope.bdf ?? pathText(segment, scope, secondaryBuses)}${flags}`;
}

/** `bus 00: 1c.0 > 00.0 = 02:00.0`. */
function pathText(segment: number, scope: DeviceScope, secondaryBuses: SecondaryBuses | undefined): string {
  const path = `bus ${scope.start_bus.toString(16).padStart(2, '0')}: ${scope.path.join(' > ')}`;
  if (secondaryBuses === undefined) return `${path} = unresolved (give --lspci)`;
  const resolved = resolveScopePath(segment, scope, secondaryBuses);
  if ('sbdf' in resolved) return `${path} = ${formatSbdf(resolved.sbdf).replace(/^0000:/, '')}`;
  return `${path} = unresolved (lspci shows no bridge ${resolved.unresolvedAt})`;
}
