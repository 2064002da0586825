// AMD's I/O virtualisation reporting table (ACPI IVRS) as an object: its units with their device entries and its memory ranges, with
// each block's offset. Owns the layout; what is strange about a range is ivmd-findings.ts's.
import { deviceId, type IvhdEntry, readIvhdEntries } from './ivhd-entries.ts';
import { hex, hex64, Section } from './section.ts';
import { readTableHeader, TABLE_HEADER_LENGTH, type TableHeader } from './table-header.ts';

interface Block<Type extends string> {
  readonly type: Type;
  /** The block's type byte, in hexadecimal. */
  readonly code: string;
  /** In bytes from the table's start. */
  readonly offset: number;
  readonly length: number;
  readonly flags: number;
  /** Of the unit, or the first device of a range. */
  readonly device_id: string;
}

/** A unit; one table tells it up to three times (10h, 11h, 40h), each time with more. */
export interface Ivhd extends Block<'IVHD'> {
  readonly capability_offset: number;
  readonly iommu_base: string;
  readonly segment: number;
  readonly info: string;
  /** 10h: its features; 11h and 40h: its attributes. */
  readonly features: string;
  readonly entries: readonly IvhdEntry[];
}

/** Memory that devices reach untranslated (unity) or must not have translated at all (exclusion). */
export interface Ivmd extends Block<'IVMD'> {
  /** `range`: device_id to aux, over all buses between. */
  readonly applies_to: 'all' | 'select' | 'range';
  readonly aux: string;
  readonly start: string;
  readonly mem_length: string;
  /** The last byte. */
  readonly end: string;
  readonly unity: boolean;
  readonly read: boolean;
  readonly write: boolean;
  readonly exclusion: boolean;
}

/** 50h to 52h, which no published specification describes: kept as they are. */
export interface Ivmdr extends Block<'IVMDR'> {
  readonly raw: string;
}

/** A type newer than this file. */
export interface UnknownIvrsBlock {
  readonly type: 'UNKNOWN';
  readonly code: string;
  readonly offset: number;
  readonly length: number;
  readonly raw: string;
}

export type IvrsBlock = Ivhd | Ivmd | Ivmdr | UnknownIvrsBlock;

export interface IvrsTable {
  readonly header: TableHeader;
  readonly ivinfo: string;
  /** Bits of physical and of virtual addresses. */
  readonly pa_size: number;
  readonly va_size: number;
  readonly structures: readonly IvrsBlock[];
  readonly anomalies: readonly string[];
}

const FIXED_LENGTH = 48;
const BLOCK_HEADER_LENGTH = 4;
const IVMD_LENGTH = 32;

const APPLIES_TO: Readonly<Record<number, Ivmd['applies_to']>> = { 32: 'all', 33: 'select', 34: 'range' };

interface Reader {
  readonly name: string;
  readonly fixedLength: number;
  read(s: Section): IvrsBlock;
}

const ivhd = (fixedLength: number): Reader => ({ name: 'IVHD', fixedLength, read: (s) => readIvhd(s, fixedLength) });
const IVMD: Reader = { name: 'IVMD', fixedLength: IVMD_LENGTH, read: readIvmd };
const IVMDR: Reader = { name: 'IVMDR', fixedLength: 6, read: (s) => ({ ...head(s, 'IVMDR'), raw: s.raw() }) };

const READERS: ReadonlyMap<number, Reader> = new Map([
  [0x10, ivhd(24)],
  [0x11, ivhd(40)],
  [0x40, ivhd(40)],
  [0x20, IVMD],
  [0x21, IVMD],
  [0x22, IVMD],
  [0x50, IVMDR],
  [0x51, IVMDR],
  [0x52, IVMDR],
]);

/** `table` is exactly one table. Throws FormatError with the offset and the field where it cannot be believed. */
export function parseIvrs(table: Uint8Array): IvrsTable {
  const header = readTableHeader(table, 'IVRS', FIXED_LENGTH);
  const section = new Section(table, 0, table.length, 'IVRS');
  const info = section.u32(TABLE_HEADER_LENGTH, 'ivinfo');
  const structures: IvrsBlock[] = [];
  for (let at = FIXED_LENGTH; at < section.length; ) {
    const block = readBlock(section, at);
    structures.push(block);
    at += block.length;
  }
  return {
    header,
    ivinfo: hex(info),
    pa_size: (info >>> 8) & 0x7f,
    va_size: (info >>> 15) & 0x7f,
    structures,
    anomalies: anomaliesOf(structures),
  };
}

function readBlock(table: Section, at: number): IvrsBlock {
  const code = table.u8(at, 'block.type');
  const length = table.u16(at + 2, 'block.length');
  const reader = READERS.get(code);
  const least = reader?.fixedLength ?? BLOCK_HEADER_LENGTH;
  const name = `${reader?.name ?? 'block of type'} ${hex(code)}`;
  if (length < least) {
    throw table.fault(
      at + 2,
      `${name}.length`,
      length === 0 ? 'zero: the next block would be this one again' : `${length} bytes, it has at least ${least}`,
      'the table is damaged: dump it again, or ask for newer firmware',
    );
  }
  const section = table.part(at, length, name, `${name}.length`);
  return reader?.read(section) ?? { type: 'UNKNOWN', code: hex(code), offset: at, length, raw: section.raw() };
}

const head = <Type extends string>(s: Section, type: Type): Block<Type> => ({
  type,
  code: hex(s.u8(0, 'type')),
  offset: s.offset,
  length: s.length,
  flags: s.u8(1, 'flags'),
  device_id: deviceId(s.u16(4, 'device_id')),
});

function readIvhd(s: Section, fixedLength: number): Ivhd {
  return {
    ...head(s, 'IVHD'),
    capability_offset: s.u16(6, 'capability_offset'),
    iommu_base: hex64(s.u64(8, 'iommu_base')),
    segment: s.u16(16, 'segment'),
    info: hex(s.u16(18, 'info')),
    features: hex(s.u32(20, 'features')),
    entries: readIvhdEntries(s, fixedLength),
  };
}

function readIvmd(s: Section): Ivmd {
  const flags = s.u8(1, 'flags');
  const start = s.u64(16, 'start');
  const length = s.u64(24, 'mem_length');
  return {
    ...head(s, 'IVMD'),
    applies_to: APPLIES_TO[s.u8(0, 'type')] ?? 'all',
    aux: deviceId(s.u16(6, 'aux')),
    start: hex64(start),
    mem_length: hex64(length),
    end: hex64(BigInt.asUintN(64, start + length - 1n)),
    unity: (flags & 1) !== 0,
    read: (flags & 2) !== 0,
    write: (flags & 4) !== 0,
    exclusion: (flags & 8) !== 0,
  };
}

/** What no operating system would accept or understand, though the layout is right. */
function anomaliesOf(blocks: readonly IvrsBlock[]): string[] {
  const anomalies: string[] = [];
  for (const block of blocks) {
    const at = `at ${hex(block.offset)}`;
    if (block.type === 'UNKNOWN') anomalies.push(`block of type ${block.code} ${at} is unknown: kept raw`);
    if (block.type === 'IVHD') {
      if (block.iommu_base === '0x0') anomalies.push('IVHD base 0');
      if (block.segment !== 0) anomalies.push(`IVHD ${at} is of PCI segment ${block.segment}`);
      anomalies.push(...openRanges(block).map((text) => `IVHD ${at}: ${text}`));
    }
    if (block.type === 'IVMD') {
      if (block.mem_length === '0x0') anomalies.push(`IVMD ${at}: zero bytes`);
      else if (BigInt(block.end) < BigInt(block.start)) anomalies.push(`IVMD ${at}: goes round the end of addresses`);
    }
  }
  return anomalies;
}

/** 03h, 43h and 47h begin a range that the next 04h ends. */
function openRanges({ entries }: Ivhd): string[] {
  const texts: string[] = [];
  let open: string | null = null;
  for (const { type, id } of entries) {
    if (type === '0x3' || type === '0x43' || type === '0x47') {
      if (open !== null) texts.push(`the range from ${open} has no end before that from ${id}`);
      open = id;
    } else if (type === '0x4') {
      if (open === null) texts.push(`the range to ${id} has no start`);
      open = null;
    }
  }
  if (open !== null) texts.push(`the range from ${open} has no end`);
  return texts;
}
