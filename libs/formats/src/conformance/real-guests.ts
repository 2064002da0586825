// guests.json: what a real Xen gave its guests, by guest: its configuration, the E820s it saw, xenstore's memory nodes and xl
// list's Mem. Owns the reading and its mistakes, and the way back from such a configuration to xl.cfg text.
import type { MemoryMapEntry } from '#model/hypercall/calls';
import { OperatorError } from '../operator-error.ts';
import { Fields, type Json, type JsonObject } from './fields.ts';

/** A row of a map as it was printed; `end` is the last byte. */
export interface E820Row {
  readonly start: string;
  readonly end: string;
  readonly type: string;
}

export interface RealGuest {
  readonly name: string;
  /** xl.cfg of the guest. */
  readonly text: string;
  /** Of the configuration, to know what applies before it is parsed. */
  readonly keys: ReadonlySet<string>;
  readonly hvmloaderE820: readonly E820Row[] | null;
  readonly kernelE820: readonly E820Row[] | null;
  /** `xl_list_mem_mib`, and nodes under memory/. */
  readonly xenstore: Readonly<Record<string, number>>;
  /** Fields of the entry that nothing here compares. */
  readonly unknown: readonly string[];
}

const KNOWN = ['config', 'hvmloader_e820', 'linux_bios_e820', 'xenstore'];

const isObject = (value: Json | undefined): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function readMap(entry: Fields, key: string): readonly E820Row[] | null {
  return entry.nullable(key, (k) =>
    entry.list(k).map((row) => ({ start: hexOf(row, 'start'), end: hexOf(row, 'end'), type: row.string('type') })),
  );
}

/** In one spelling, whatever the file's. */
const hexOf = (row: Fields, key: string): string => `0x${row.hex(key).toString(16)}`;

function readXenstore(entry: Fields): Readonly<Record<string, number>> {
  const nodes = entry.raw('xenstore') ?? {};
  if (!isObject(nodes)) throw new Error('field xenstore: an object was expected');
  const fields = new Fields(nodes);
  return Object.fromEntries(Object.keys(nodes).map((key) => [key, fields.number(key)]));
}

const quoted = (text: string): string => `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;

/** A value in xl.cfg's syntax. Text that begins with a bracket is a list already. */
function cfgValue(key: string, value: Json): string {
  if (typeof value === 'number') return String(value);
  if (typeof value === 'boolean') return value ? '1' : '0';
  if (typeof value === 'string') return value.trimStart().startsWith('[') ? value : quoted(value);
  if (Array.isArray(value)) return `[${(value as readonly Json[]).map((item) => cfgValue(key, item)).join(', ')}]`; // narrowed by isArray
  throw new Error(`config.${key}: ${JSON.stringify(value)} cannot be written in an xl.cfg`);
}

function cfgText(name: string, config: JsonObject): string {
  const settings: Record<string, Json> = { name, ...config };
  // What boots does not matter to the memory plane, but xl wants it named.
  if (config.type !== 'hvm' && config.kernel === undefined && config.bootloader === undefined)
    settings.kernel = 'vmlinuz';
  return Object.entries(settings)
    .map(([key, value]) => `${key} = ${cfgValue(key, value)}\n`)
    .join('');
}

function readGuest(name: string, value: Json): RealGuest {
  const entry = new Fields(value);
  const config = entry.raw('config');
  if (!isObject(config)) throw new Error('no "config" object');
  return {
    name,
    text: cfgText(name, config),
    keys: new Set(Object.keys(config)),
    hvmloaderE820: readMap(entry, 'hvmloader_e820'),
    kernelE820: readMap(entry, 'linux_bios_e820'),
    xenstore: readXenstore(entry),
    unknown: Object.keys(value as JsonObject).filter((key) => !KNOWN.includes(key)), // Fields has checked it
  };
}

/** Every guest of the file. `path` is what messages call it. Throws OperatorError. */
export function parseRealGuests(text: string, path: string): readonly RealGuest[] {
  const remedy =
    'the file must be an object of guests: { "NAME": { "config": {…}, "hvmloader_e820": […], "xenstore": {…} } }';
  const wrong = (message: string): OperatorError => new OperatorError([{ file: path, message, remedy }]);
  let all: Json;
  try {
    all = JSON.parse(text) as Json; // what JSON.parse gives is Json
  } catch (error) {
    throw wrong(`not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (!isObject(all)) throw wrong('no object of guests');
  const guests = Object.entries(all).map(([name, value]) => {
    try {
      return readGuest(name, value);
    } catch (error) {
      throw wrong(`guest ${name}: ${error instanceof Error ? error.message : String(error)}`);
    }
  });
  if (guests.length === 0) throw wrong('no guest');
  return guests;
}

/** Words of hvmloader's dump and of Linux's log, by type. */
const hvmloaderWords = ['', 'RAM', 'RESERVED', 'ACPI', 'NVS'];
const linuxWords = ['', 'usable', 'reserved', 'ACPI data', 'ACPI NVS', 'unusable'];

const rowsWith =
  (words: readonly string[]) =>
  (map: readonly MemoryMapEntry[]): readonly E820Row[] =>
    map
      .filter(({ size }) => size > 0)
      .map(({ addr, size, type }) => ({
        start: `0x${addr.toString(16)}`,
        end: `0x${(addr + size - 1).toString(16)}`,
        type: words[type] ?? `UNKNOWN (${type})`,
      }));

export const hvmloaderRows = rowsWith(hvmloaderWords);
export const linuxRows = rowsWith(linuxWords);

/** A map as Linux printed it, as entries; rows of a type that is no E820 type are left out. */
export const entriesOf = (rows: readonly E820Row[]): readonly MemoryMapEntry[] =>
  rows.flatMap(({ start, end, type }) => {
    const code = linuxWords.indexOf(type);
    // An index of the table above is an E820 type.
    return code > 0
      ? [{ addr: Number(start), size: Number(end) - Number(start) + 1, type: code as MemoryMapEntry['type'] }]
      : [];
  });
