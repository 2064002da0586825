// The header that every ACPI table begins with, and whether the table as a whole can be believed: signature, length, checksum.
// Knows no table's contents.
import { FormatError } from './format-error.ts';
import { Section } from './section.ts';

export interface TableHeader {
  readonly signature: string;
  readonly length: number;
  readonly revision: number;
  readonly checksum: number;
  readonly oem_id: string;
  readonly oem_table_id: string;
  readonly oem_revision: number;
  readonly compiler_id: string;
  readonly compiler_revision: number;
  readonly file_length: number;
  /** Always true: a table that does not add up to zero is refused. */
  readonly checksum_ok: boolean;
}

export const TABLE_HEADER_LENGTH = 36;
const LENGTH_AT = 4;
const CHECKSUM_AT = 9;

/** Throws FormatError. `fixedLength`: what a table of this signature has before its first structure. */
export function readTableHeader(table: Uint8Array, signature: string, fixedLength: number): TableHeader {
  const section = new Section(table, 0, table.length, signature);
  const found = section.text(0, 4, 'signature');
  if (found !== signature) {
    throw section.fault(
      0,
      'signature',
      `${JSON.stringify(found)} stands here, not ${signature}`,
      `give the ${signature} table, such as /sys/firmware/acpi/tables/${signature}`,
    );
  }
  checkLength(section, fixedLength);
  checkSum(table);
  return {
    signature,
    length: section.u32(LENGTH_AT, 'length'),
    revision: section.u8(8, 'revision'),
    checksum: section.u8(CHECKSUM_AT, 'checksum'),
    oem_id: section.text(10, 6, 'oem_id'),
    oem_table_id: section.text(16, 8, 'oem_table_id'),
    oem_revision: section.u32(24, 'oem_revision'),
    compiler_id: section.text(28, 4, 'compiler_id'),
    compiler_revision: section.u32(32, 'compiler_revision'),
    file_length: table.length,
    checksum_ok: true,
  };
}

function checkLength(section: Section, fixedLength: number): void {
  const length = section.u32(LENGTH_AT, 'length');
  if (length < fixedLength) {
    throw section.fault(
      LENGTH_AT,
      'length',
      `${length} bytes are told, the fixed part alone has ${fixedLength}`,
      'the table is damaged: dump it again',
    );
  }
  if (length > section.length) {
    throw section.fault(
      LENGTH_AT,
      'length',
      `${length} bytes are told, the file has ${section.length}`,
      'the file is cut off: dump the table again',
    );
  }
  if (length < section.length) {
    throw section.fault(
      LENGTH_AT,
      'length',
      `${length} bytes are told, the file has ${section.length - length} more`,
      `keep only the first ${length} bytes, if what follows is another table or padding`,
    );
  }
}

function checkSum(table: Uint8Array): void {
  const sum = table.reduce((total, byte) => (total + byte) & 0xff, 0);
  if (sum === 0) return;
  throw new FormatError({
    offset: CHECKSUM_AT,
    field: 'header.checksum',
    what: `all bytes add up to 0x${sum.toString(16)}, not to 0`,
    remedy: 'the table was changed or damaged: dump it again from the machine',
  });
}
