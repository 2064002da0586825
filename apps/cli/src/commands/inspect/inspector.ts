// What every kind of `hostloom inspect` is: bytes of a file in, one object and one text a person reads out. Knows no format.
import { FormatError } from '#formats/acpi/format-error';
import { tableBytes } from '#formats/acpi/table-source';
import { OperatorError } from '#formats/operator-error';

export interface InspectedFile {
  readonly bytes: Uint8Array;
  /** As the operator named it, for messages. */
  readonly name: string;
}

/** Other files of the same machine, for what can be told only with them. */
export interface InspectOptions {
  readonly lspci?: InspectedFile;
  readonly dmesg?: InspectedFile;
  readonly dmar?: InspectedFile;
}

export interface Inspection {
  /** The object of `--json`. */
  readonly json: unknown;
  /** What is printed without it: whole lines, no newline at the end. */
  readonly text: string;
  /** What is wrong in the file, or odd, without keeping it from being read: lines for standard error. */
  readonly complaints?: readonly string[];
  /** Read as far as it went; who it is meant for would refuse it. */
  readonly refused?: boolean;
}

/** Throws OperatorError, nothing else. */
export type Inspector = (file: InspectedFile, options: InspectOptions) => Inspection;

/** As UTF-8; PowerShell writes UTF-16. */
export function textOf({ bytes }: InspectedFile): string {
  const isUtf16 = bytes[0] === 0xff && bytes[1] === 0xfe;
  return new TextDecoder(isUtf16 ? 'utf-16le' : 'utf-8').decode(bytes);
}

/** The table `signature` out of a binary or a text. Throws OperatorError with the offset and the field. */
export function readTable<Table>(
  { bytes, name }: InspectedFile,
  signature: string,
  parse: (table: Uint8Array) => Table,
): Table {
  try {
    return parse(tableBytes(bytes, signature));
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new OperatorError([{ file: name, message: error.message, remedy: error.remedy }]);
  }
}
