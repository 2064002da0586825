// Intel's DMA remapping table (ACPI DMAR, VT-d specification chapter 8) as an object: its units, reserved regions and the rest, with
// each structure's offset. Owns the layout; what is strange about a reserved region is rmrr-findings.ts's.
import { type DeviceScope, readDeviceScopes } from './device-scope.ts';
import { rmrrNotes } from './rmrr-findings.ts';
import { hex, hex64, Section } from './section.ts';
import { readTableHeader, TABLE_HEADER_LENGTH, type TableHeader } from './table-header.ts';

interface Structure<Type extends string> {
  readonly type: Type;
  /** In bytes from the table's start. */
  readonly offset: number;
  readonly length: number;
}

/** A remapping unit. */
export interface Drhd extends Structure<'DRHD'> {
  readonly flags: number;
  readonly include_all: boolean;
  readonly segment: number;
  readonly register_base: string;
  readonly scopes: readonly DeviceScope[];
  /** The registers' size as a power of two of pages; absent where one page. */
  readonly size_field?: number;
}

/** Memory that the named devices' firmware uses and must go on reaching. */
export interface Rmrr extends Structure<'RMRR'> {
  readonly segment: number;
  readonly base: string;
  /** The last byte. */
  readonly limit: string;
  readonly size: number;
  readonly scopes: readonly DeviceScope[];
}

/** Root ports below which address translation services may be used. */
export interface Atsr extends Structure<'ATSR'> {
  readonly flags: number;
  readonly segment: number;
  readonly scopes: readonly DeviceScope[];
  readonly all_ports: boolean;
}

/** The NUMA node of a unit. */
export interface Rhsa extends Structure<'RHSA'> {
  readonly register_base: string;
  readonly proximity: number;
}

/** The name in ACPI of a device that PCI does not list. */
export interface Andd extends Structure<'ANDD'> {
  readonly device_number: number;
  readonly name: string;
}

/** Devices inside the SoC that have an address translation cache. */
export interface Satc extends Structure<'SATC'> {
  readonly flags: number;
  readonly segment: number;
  readonly scopes: readonly DeviceScope[];
}

/** Properties of devices inside the SoC: the flags of its scopes. */
export interface Sidp extends Structure<'SIDP'> {
  readonly segment: number;
  readonly scopes: readonly DeviceScope[];
}

/** A type newer than this file, kept as it is. */
export interface UnknownDmarStructure extends Structure<'UNKNOWN'> {
  readonly code: number;
  readonly raw: string;
}

export type DmarStructure = Drhd | Rmrr | Atsr | Rhsa | Andd | Satc | Sidp | UnknownDmarStructure;

export interface DmarTable {
  readonly header: TableHeader;
  readonly host_address_width: number;
  /** Bit 0 interrupt remapping, 1 the firmware asks not to use x2APIC, 2 it asks for DMA protection. */
  readonly flags: number;
  readonly structures: readonly DmarStructure[];
  readonly rmrr_notes: readonly string[];
  readonly anomalies: readonly string[];
}

const FIXED_LENGTH = 48;
const STRUCTURE_HEADER_LENGTH = 4;

/** By the structure's type; what precedes its scopes. */
const READERS: readonly { readonly fixedLength: number; readonly name: string; read(s: Section): DmarStructure }[] = [
  { name: 'DRHD', fixedLength: 16, read: readDrhd },
  { name: 'RMRR', fixedLength: 24, read: readRmrr },
  { name: 'ATSR', fixedLength: 8, read: readAtsr },
  { name: 'RHSA', fixedLength: 20, read: readRhsa },
  { name: 'ANDD', fixedLength: 8, read: readAndd },
  { name: 'SATC', fixedLength: 8, read: readSatc },
  { name: 'SIDP', fixedLength: 8, read: readSidp },
];

/** `table` is exactly one table. Throws FormatError with the offset and the field where it cannot be believed. */
export function parseDmar(table: Uint8Array): DmarTable {
  const header = readTableHeader(table, 'DMAR', FIXED_LENGTH);
  const section = new Section(table, 0, table.length, 'DMAR');
  const structures: DmarStructure[] = [];
  for (let at = FIXED_LENGTH; at < section.length; ) {
    const structure = readStructure(section, at);
    structures.push(structure);
    at += structure.length;
  }
  // The table holds the width less one.
  const width = section.u8(TABLE_HEADER_LENGTH, 'host_address_width') + 1;
  return {
    header,
    host_address_width: width,
    flags: section.u8(TABLE_HEADER_LENGTH + 1, 'flags'),
    structures,
    rmrr_notes: rmrrNotes(structures, width),
    anomalies: anomaliesOf(structures),
  };
}

function readStructure(table: Section, at: number): DmarStructure {
  const code = table.u16(at, 'structure.type');
  const length = table.u16(at + 2, 'structure.length');
  const reader = READERS[code];
  const least = reader?.fixedLength ?? STRUCTURE_HEADER_LENGTH;
  const name = reader?.name ?? `structure of type ${code}`;
  if (length < least) {
    throw table.fault(
      at + 2,
      `${name}.length`,
      length === 0 ? 'zero: the next structure would be this one again' : `${length} bytes, it has at least ${least}`,
      'the table is damaged: dump it again, or ask for newer firmware',
    );
  }
  const section = table.part(at, length, name, `${name}.length`);
  return reader?.read(section) ?? { type: 'UNKNOWN', offset: at, length, code, raw: section.raw() };
}

function readDrhd(s: Section): Drhd {
  const flags = s.u8(4, 'flags');
  const size = s.u8(5, 'size');
  return {
    type: 'DRHD',
    offset: s.offset,
    length: s.length,
    flags,
    include_all: (flags & 1) !== 0,
    segment: s.u16(6, 'segment'),
    register_base: hex64(s.u64(8, 'register_base')),
    scopes: readDeviceScopes(s, 16),
    ...(size === 0 ? {} : { size_field: size }),
  };
}

function readRmrr(s: Section): Rmrr {
  const base = s.u64(8, 'base');
  const limit = s.u64(16, 'limit');
  return {
    type: 'RMRR',
    offset: s.offset,
    length: s.length,
    segment: s.u16(6, 'segment'),
    base: hex64(base),
    limit: hex64(limit),
    size: Number(limit - base + 1n),
    scopes: readDeviceScopes(s, 24),
  };
}

function readAtsr(s: Section): Atsr {
  const flags = s.u8(4, 'flags');
  return {
    type: 'ATSR',
    offset: s.offset,
    length: s.length,
    flags,
    segment: s.u16(6, 'segment'),
    scopes: readDeviceScopes(s, 8),
    all_ports: (flags & 1) !== 0,
  };
}

function readRhsa(s: Section): Rhsa {
  return {
    type: 'RHSA',
    offset: s.offset,
    length: s.length,
    register_base: hex64(s.u64(8, 'register_base')),
    proximity: s.u32(16, 'proximity'),
  };
}

function readAndd(s: Section): Andd {
  return {
    type: 'ANDD',
    offset: s.offset,
    length: s.length,
    device_number: s.u8(7, 'device_number'),
    // The name ends at its first NUL; firmware fills up with more.
    name: s.text(8, s.length - 8, 'name').replace(/\0.*$/s, ''),
  };
}

function readSatc(s: Section): Satc {
  return {
    type: 'SATC',
    offset: s.offset,
    length: s.length,
    flags: s.u8(4, 'flags'),
    segment: s.u16(6, 'segment'),
    scopes: readDeviceScopes(s, 8),
  };
}

function readSidp(s: Section): Sidp {
  return {
    type: 'SIDP',
    offset: s.offset,
    length: s.length,
    segment: s.u16(6, 'segment'),
    scopes: readDeviceScopes(s, 8),
  };
}

/** What no operating system would accept or understand, though the layout is right. */
function anomaliesOf(structures: readonly DmarStructure[]): string[] {
  const anomalies: string[] = [];
  for (const structure of structures) {
    if (structure.type === 'DRHD' && structure.register_base === '0x0') anomalies.push('DRHD register base 0');
    if (structure.type === 'UNKNOWN') {
      anomalies.push(`structure of type ${structure.code} at ${hex(structure.offset)} is unknown: kept raw`);
    }
    if (!('scopes' in structure)) continue;
    for (const hop of structure.scopes.flatMap(({ path }) => path)) {
      const [device = 0, fn = 0] = hop.split('.').map((part) => Number.parseInt(part, 16));
      if (device > 0x1f || fn > 7) {
        anomalies.push(`${structure.type} at ${hex(structure.offset)}: no PCI device can be ${hop}`);
      }
    }
  }
  if (structures.some((s) => 'segment' in s && s.segment !== 0)) anomalies.push('more than PCI segment 0');
  return anomalies;
}
