// A stretch of a binary table that reads itself: little-endian fields inside its bounds, each named, so that whatever is wrong is
// told with its offset and its field. Owns bounds and byte order; knows no table.
import { FormatError } from './format-error.ts';

export class Section {
  /** In bytes from the table's start. */
  readonly offset: number;
  readonly length: number;
  readonly #name: string;
  readonly #table: Uint8Array;
  readonly #view: DataView;

  /** `offset` and `length` must lie inside the table: ask `part` where they come from the table itself. */
  constructor(table: Uint8Array, offset: number, length: number, name: string) {
    this.offset = offset;
    this.length = length;
    this.#name = name;
    this.#table = table;
    this.#view = new DataView(table.buffer, table.byteOffset + offset, length);
  }

  u8(at: number, field: string): number {
    this.#need(at, 1, field);
    return this.#view.getUint8(at);
  }

  u16(at: number, field: string): number {
    this.#need(at, 2, field);
    return this.#view.getUint16(at, true);
  }

  u32(at: number, field: string): number {
    this.#need(at, 4, field);
    return this.#view.getUint32(at, true);
  }

  /** The one place where 64 bits need a bigint. */
  u64(at: number, field: string): bigint {
    this.#need(at, 8, field);
    return this.#view.getBigUint64(at, true);
  }

  /** Bytes as characters, without the NULs that fill up the field. */
  text(at: number, length: number, field: string): string {
    this.#need(at, length, field);
    return String.fromCharCode(...this.#bytes(at, length)).replace(/\0+$/, '');
  }

  /** The whole stretch in hexadecimal digits: how a structure that nobody knows is kept. */
  raw(): string {
    return [...this.#bytes(0, this.length)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  }

  /** A stretch inside this one; `field` is what gave its length. */
  part(at: number, length: number, name: string, field: string): Section {
    if (at + length > this.length) {
      throw this.fault(
        at,
        field,
        `${length} bytes are told, ${this.length - at} are left in the ${this.#name}`,
        'the table is cut off or damaged: dump it again',
      );
    }
    return new Section(this.#table, this.offset + at, length, name);
  }

  fault(at: number, field: string, what: string, remedy: string): FormatError {
    return new FormatError({ offset: this.offset + at, field: `${this.#name}.${field}`, what, remedy });
  }

  #need(at: number, bytes: number, field: string): void {
    if (at + bytes <= this.length) return;
    throw this.fault(
      at,
      field,
      `the ${this.#name} ends after ${this.length} bytes, before this field does`,
      'the table is cut off or damaged: dump it again',
    );
  }

  #bytes(at: number, length: number): Uint8Array {
    return new Uint8Array(this.#view.buffer, this.#view.byteOffset + at, length);
  }
}

/** A 64-bit number as these tables' objects show it. */
export const hex64 = (value: bigint): string => `0x${value.toString(16)}`;

export const hex = (value: number): string => `0x${value.toString(16)}`;
