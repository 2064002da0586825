// Writes ACPI tables for specs: right ones, and on request wrong ones. Knows the layouts by itself, so that reader and writer
// check each other.

type Bytes = readonly number[];

const le = (value: number | bigint, bytes: number): number[] =>
  Array.from({ length: bytes }, (_, i) => Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));
const u16 = (value: number): number[] => le(value, 2);
const u32 = (value: number): number[] => le(value, 4);
const u64 = (value: number | bigint): number[] => le(value, 8);
const chars = (text: string, length: number): number[] =>
  Array.from({ length }, (_, i) => (i < text.length ? text.charCodeAt(i) : 0));

/** Sets length and checksum to what they must be. */
export function repaired(table: Uint8Array): Uint8Array {
  const copy = table.slice();
  if (copy.length < 10) return copy;
  new DataView(copy.buffer).setUint32(4, copy.length, true);
  copy[9] = 0;
  copy[9] = -copy.reduce((sum, byte) => sum + byte, 0) & 0xff;
  return copy;
}

function table(signature: string, revision: number, rest: Bytes): Uint8Array {
  const header = [
    ...chars(signature, 4),
    ...u32(0),
    revision,
    0,
    ...chars('LOOM', 6),
    ...chars('SPEC', 8),
    ...u32(1),
    ...chars('LOOM', 4),
    ...u32(1),
  ];
  return repaired(Uint8Array.from([...header, ...rest]));
}

/** `width`: of the host's addresses, in bits. */
export const dmarTable = (structures: readonly Bytes[], { width = 39, flags = 1 } = {}): Uint8Array =>
  table('DMAR', 1, [width - 1, flags, ...chars('', 10), ...structures.flat()]);

export interface ScopeToWrite {
  readonly type: number;
  readonly bus?: number;
  readonly id?: number;
  readonly flags?: number;
  /** Device and function of each hop. */
  readonly path: readonly (readonly [number, number])[];
}

const scopeBytes = ({ type, bus = 0, id = 0, flags = 0, path }: ScopeToWrite): number[] => [
  type,
  6 + 2 * path.length,
  flags,
  0,
  id,
  bus,
  ...path.flat(),
];

/** An endpoint directly on `bus`. */
export const endpoint = (device: number, fn = 0, bus = 0): ScopeToWrite => ({ type: 1, bus, path: [[device, fn]] });

export const dmarStructure = (type: number, body: Bytes): number[] => [...u16(type), ...u16(4 + body.length), ...body];

const scoped = (type: number, body: Bytes, scopes: readonly ScopeToWrite[]): number[] =>
  dmarStructure(type, [...body, ...scopes.flatMap(scopeBytes)]);

export const drhd = (base: number, scopes: readonly ScopeToWrite[], { flags = 0, size = 0, segment = 0 } = {}) =>
  scoped(0, [flags, size, ...u16(segment), ...u64(base)], scopes);
export const rmrr = (base: number | bigint, limit: number | bigint, scopes: readonly ScopeToWrite[], segment = 0) =>
  scoped(1, [...u16(0), ...u16(segment), ...u64(base), ...u64(limit)], scopes);
export const atsr = (flags: number, scopes: readonly ScopeToWrite[]) => scoped(2, [flags, 0, ...u16(0)], scopes);
export const rhsa = (base: number, node: number) => dmarStructure(3, [...u32(0), ...u64(base), ...u32(node)]);
export const andd = (device: number, name: string) =>
  dmarStructure(4, [0, 0, 0, device, ...chars(name, name.length + 1)]);
export const satc = (flags: number, scopes: readonly ScopeToWrite[]) => scoped(5, [flags, 0, ...u16(0)], scopes);
export const sidp = (scopes: readonly ScopeToWrite[]) => scoped(6, [...u16(0), ...u16(0)], scopes);

export const ivrsTable = (blocks: readonly Bytes[], ivinfo = 0x203043): Uint8Array =>
  table('IVRS', 2, [...u32(ivinfo), ...chars('', 8), ...blocks.flat()]);

export const ivrsBlock = (type: number, flags: number, body: Bytes): number[] => [
  type,
  flags,
  ...u16(4 + body.length),
  ...body,
];

/** `type` 10h, or 11h and 40h with an image of the features register. */
export const ivhd = (type: number, base: number, entries: readonly Bytes[], segment = 0): number[] =>
  ivrsBlock(type, 0xb0, [
    ...u16(2),
    ...u16(0x40),
    ...u64(base),
    ...u16(segment),
    ...u16(0),
    ...u32(0x40200),
    ...(type === 0x10 ? [] : [...u64(0), ...u64(0)]),
    ...entries.flat(),
  ]);

/** 4 bytes. */
export const plainEntry = (type: number, id: number, data = 0): number[] => [type, ...u16(id), data];
/** 8 bytes: 42h, 43h. */
export const aliasEntry = (type: number, id: number, alias: number): number[] => [
  ...plainEntry(type, id),
  0,
  ...u16(alias),
  0,
];
/** 8 bytes: 46h, 47h. */
export const extendedEntry = (type: number, id: number, extended: number): number[] => [
  ...plainEntry(type, id),
  ...u32(extended),
];
export const specialEntry = (handle: number, source: number, variety: number, data = 0): number[] => [
  ...plainEntry(0x48, 0, data),
  handle,
  ...u16(source),
  variety,
];
export const acpiEntry = (id: number, hid: string, format: number, uid: Bytes): number[] => [
  ...plainEntry(0xf0, id),
  ...chars(hid, 8),
  ...chars('', 8),
  format,
  uid.length,
  ...uid,
];
export const asciiBytes = (text: string): number[] => chars(text, text.length);

export const ivmd = (type: number, flags: number, ids: readonly [number, number], start: number, length: number) =>
  ivrsBlock(type, flags, [...u16(ids[0]), ...u16(ids[1]), ...u64(0), ...u64(start), ...u64(length)]);

const rowsOf = (bytes: Uint8Array, separator: string): string[] =>
  Array.from({ length: Math.ceil(bytes.length / 16) }, (_, row) => {
    const cells = [...bytes.subarray(row * 16, row * 16 + 16)];
    const ascii = cells.map((c) => (c >= 0x20 && c < 0x7f ? String.fromCharCode(c) : '.')).join('');
    const digits = cells.map((c) => c.toString(16).toUpperCase().padStart(2, '0')).join(' ');
    return `    ${(row * 16).toString(16).toUpperCase().padStart(4, '0')}: ${digits.padEnd(47)} ${separator} ${ascii}`;
  });

/** As `acpidump` prints tables, one after the other. */
export const acpidumpText = (tables: readonly { readonly name: string; readonly bytes: Uint8Array }[]): string =>
  tables.map(({ name, bytes }) => [`${name} @ 0x00000000BF7DA000`, ...rowsOf(bytes, ' '), ''].join('\n')).join('\n');

/** The end of what iasl writes when it disassembles a data table. */
export const dslText = (bytes: Uint8Array): string =>
  [
    '/*',
    ' * ACPI Data Table',
    ' */',
    '[000h 0000   4]                    Signature : "DMAR"',
    '',
    `Raw Table Data: Length ${bytes.length} (0x${bytes.length.toString(16).toUpperCase()})`,
    '',
    ...rowsOf(bytes, '//'),
    '',
  ].join('\n');
