// One ACPI table out of a file as people have it: the table itself, the text of `acpidump` with many tables, or the raw table data
// at the end of iasl's `.dsl`. Told apart by content, not by name. Knows no table's inside.
import { FormatError } from './format-error.ts';

const LINE_BYTES = 16;
/** Bytes of a file looked at to tell text from a table; a table has control characters among its first. */
const PROBE_BYTES = 36;

/** `signature`: which table to take out. Throws FormatError where it is not there or its dump is damaged. */
export function tableBytes(file: Uint8Array, signature: string): Uint8Array {
  const text = textOf(file);
  if (text === null) return file;
  const dumps = readDumps(text);
  const wanted = dumps.filter(({ name, bytes }) => (name ?? signatureOf(bytes)) === signature);
  const [first, ...others] = wanted;
  if (first === undefined) {
    const found = dumps.map(({ name, bytes }) => name ?? signatureOf(bytes)).filter((name) => name !== '');
    throw new FormatError({
      offset: 0,
      field: 'signature',
      what:
        found.length === 0
          ? 'a text without the bytes of a table'
          : `no ${signature} among the tables of this text: ${[...new Set(found)].join(', ')}`,
      remedy: `give the ${signature} table, the text of acpidump, or a .dsl that ends with its raw table data`,
    });
  }
  for (const other of others) {
    if (!isSame(first.bytes, other.bytes)) {
      throw new FormatError({
        offset: 0,
        field: 'signature',
        what: `two different ${signature} tables, at lines ${first.line} and ${other.line}; a machine has one`,
        remedy: 'keep the dump of one machine only',
      });
    }
  }
  if (first.told !== null && first.told !== first.bytes.length) {
    throw new FormatError({
      offset: first.bytes.length,
      field: 'Raw Table Data: Length',
      what: `${first.told} bytes are told at line ${first.line}, ${first.bytes.length} are there`,
      remedy: 'the text is cut off: disassemble the table again',
    });
  }
  return first.bytes;
}

/** null: not a text. PowerShell writes UTF-16. */
function textOf(file: Uint8Array): string | null {
  if (file[0] === 0xff && file[1] === 0xfe) return new TextDecoder('utf-16le').decode(file);
  const probe = file.subarray(0, PROBE_BYTES);
  const isControl = (byte: number): boolean => byte < 0x20 && byte !== 0x09 && byte !== 0x0a && byte !== 0x0d;
  return file.length === 0 || probe.some(isControl) ? null : new TextDecoder('utf-8').decode(file);
}

interface Dump {
  /** The table's name as the text tells it; null: as its bytes do. */
  readonly name: string | null;
  /** Where it begins, from 1. */
  readonly line: number;
  /** The length that the text tells; null where it tells none. */
  readonly told: number | null;
  readonly bytes: Uint8Array;
}

/** Mails quote such texts with `>`. */
const ACPIDUMP_HEADING = /^[\s>]*([A-Za-z0-9_!]{4})\s+@\s+0x[0-9a-f]+/i;
const DSL_HEADING = /^[\s>]*Raw Table Data(?::\s*Length\s+(\d+))?/i;
const DUMP_LINE = /^[\s>]*([0-9a-f]{4,8}):\s+((?:[0-9a-f]{2}(?: |$|(?=\s|\/\/))){1,16})/i;

function readDumps(text: string): Dump[] {
  const dumps: Dump[] = [];
  let open: { name: string | null; line: number; told: number | null; bytes: number[] } | null = null;
  const close = (): void => {
    if (open !== null) dumps.push({ ...open, bytes: Uint8Array.from(open.bytes) });
    open = null;
  };
  for (const [index, line] of text.split(/\r\n|\n|\r/).entries()) {
    const acpidump = ACPIDUMP_HEADING.exec(line);
    const dsl = acpidump === null ? DSL_HEADING.exec(line) : null;
    if (acpidump !== null || dsl !== null) {
      close();
      const told = dsl?.[1] === undefined ? null : Number(dsl[1]);
      open = { name: acpidump?.[1] ?? null, line: index + 1, told, bytes: [] };
      continue;
    }
    const row = open === null ? null : DUMP_LINE.exec(line);
    if (open !== null && row !== null) appendRow(open.bytes, row, index + 1);
  }
  close();
  return dumps;
}

/** A row that does not go on where the one before it ended is a line lost, or one too many. */
function appendRow(bytes: number[], row: RegExpExecArray, line: number): void {
  const at = Number.parseInt(row[1] ?? '', 16);
  if (at !== bytes.length) {
    throw new FormatError({
      offset: bytes.length,
      field: `line ${line}`,
      what: `offset 0x${at.toString(16)} is told, 0x${bytes.length.toString(16)} is next`,
      remedy: 'a line is missing, doubled or damaged: dump the table again',
    });
  }
  const cells = (row[2] ?? '').trim().split(/\s+/).slice(0, LINE_BYTES);
  for (const cell of cells) bytes.push(Number.parseInt(cell, 16));
}

const signatureOf = (bytes: Uint8Array): string => String.fromCharCode(...bytes.subarray(0, 4));

const isSame = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, index) => byte === b[index]);
