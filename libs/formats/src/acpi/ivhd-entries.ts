// The device entries of an IVHD block: which requester ids its unit translates for, with which flags and aliases (AMD I/O
// Virtualization Technology specification, IVHD device entries). Owns their lengths and layouts.
import { hex, hex64, type Section } from './section.ts';

interface Entry {
  /** Of the entry, in hexadecimal. */
  readonly type: string;
  readonly id: string;
  /** Interrupts that pass untranslated, and the like. */
  readonly data: number;
}

/** 42h, 43h: requests that arrive under another id. */
export interface AliasEntry extends Entry {
  readonly alias: string;
}

/** 46h, 47h: with extended settings, whose top bit turns translation requests off. */
export interface ExtendedEntry extends Entry {
  readonly extended: string;
}

/** 48h: an IOAPIC or an HPET. */
export interface SpecialEntry extends Entry {
  readonly handle: number;
  readonly source: string;
  readonly variety: string;
}

/** F0h: a device known by its ACPI name. */
export interface AcpiEntry extends Entry {
  readonly hid: string;
  readonly cid: string;
  readonly uid_format: number;
  readonly uid: string;
}

export type IvhdEntry = Entry | AliasEntry | ExtendedEntry | SpecialEntry | AcpiEntry;

const ACPI_ENTRY = 0xf0;
const ACPI_ENTRY_FIXED = 22;
const VARIETIES: Readonly<Record<number, string>> = { 1: 'ioapic', 2: 'hpet' };
const UID_INTEGER = 1;

/** A requester id: bus in the upper byte. */
export function deviceId(id: number): string {
  const two = (value: number): string => value.toString(16).padStart(2, '0');
  return `${two(id >> 8)}:${two((id >> 3) & 0x1f)}.${id & 7}`;
}

/** All entries from `at` to the end of the block. */
export function readIvhdEntries(block: Section, at: number): IvhdEntry[] {
  const entries: IvhdEntry[] = [];
  for (let next = at; next < block.length; ) {
    const length = entryLength(block, next);
    entries.push(readEntry(block.part(next, length, 'device_entry', 'device_entry.length')));
    next += length;
  }
  return entries;
}

/** The two top bits of the type tell the length; F0h alone carries a name of any length. */
function entryLength(block: Section, at: number): number {
  const type = block.u8(at, 'device_entry.type');
  if (type === ACPI_ENTRY) return ACPI_ENTRY_FIXED + block.u8(at + ACPI_ENTRY_FIXED - 1, 'device_entry.uid_length');
  return 4 << (type >> 6);
}

function readEntry(s: Section): IvhdEntry {
  const type = s.u8(0, 'type');
  const entry: Entry = { type: hex(type), id: deviceId(s.u16(1, 'id')), data: s.u8(3, 'data') };
  switch (type) {
    case 0x42:
    case 0x43:
      return { ...entry, alias: deviceId(s.u16(5, 'alias')) };
    case 0x46:
    case 0x47:
      return { ...entry, extended: hex(s.u32(4, 'extended')) };
    case 0x48: {
      const variety = s.u8(7, 'variety');
      const known = VARIETIES[variety] ?? `unknown ${variety}`;
      return { ...entry, handle: s.u8(4, 'handle'), source: deviceId(s.u16(5, 'source')), variety: known };
    }
    case ACPI_ENTRY: {
      const format = s.u8(20, 'uid_format');
      return {
        ...entry,
        hid: s.text(4, 8, 'hid'),
        cid: s.text(12, 8, 'cid'),
        uid_format: format,
        uid: uidOf(s, format),
      };
    }
    default:
      return entry;
  }
}

/** A whole number has eight bytes by the specification; firmware writes fewer, too. */
function uidOf(s: Section, format: number): string {
  const length = s.length - ACPI_ENTRY_FIXED;
  if (format !== UID_INTEGER || length === 0) return s.text(ACPI_ENTRY_FIXED, length, 'uid');
  let value = 0n;
  for (let at = s.length - 1; at >= ACPI_ENTRY_FIXED; at--) value = value * 256n + BigInt(s.u8(at, 'uid'));
  return hex64(value);
}
