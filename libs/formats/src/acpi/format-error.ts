// What is wrong in a binary table: where, in which field, and what to do. Owns the message; knows no table.

export interface FormatFault {
  /** In bytes from the table's start. */
  readonly offset: number;
  /** As the specification names it, with its structure: `DRHD.length`. */
  readonly field: string;
  readonly what: string;
  readonly remedy: string;
}

/** A table that cannot be believed. Who has the file's name puts it in front. */
export class FormatError extends Error {
  override readonly name = 'FormatError';
  readonly offset: number;
  readonly field: string;
  readonly what: string;
  readonly remedy: string;

  constructor({ offset, field, what, remedy }: FormatFault) {
    super(`offset 0x${offset.toString(16)}: ${field}: ${what}`);
    this.offset = offset;
    this.field = field;
    this.what = what;
    this.remedy = remedy;
  }
}
