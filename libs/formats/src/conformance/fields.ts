// Reading and writing the JSON of golden vectors: typed access to fields, hex strings to numbers and back. The only place
// where 64-bit values are big integers; the model computes with plain numbers.

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json;
}

/** A vector's input, field by field; a missing or wrongly typed field is an error that names it. */
export class Fields {
  readonly #object: JsonObject;

  constructor(object: Json | undefined) {
    if (object === null || typeof object !== 'object' || Array.isArray(object))
      throw new Error('an object was expected');
    this.#object = object as JsonObject; // an object that is no array
  }

  number(key: string): number {
    const value = this.#object[key];
    return typeof value === 'number' ? value : this.#wrong(key, 'a number');
  }

  boolean(key: string): boolean {
    const value = this.#object[key];
    return typeof value === 'boolean' ? value : this.#wrong(key, 'a boolean');
  }

  string(key: string): string {
    const value = this.#object[key];
    return typeof value === 'string' ? value : this.#wrong(key, 'a string');
  }

  /** One of the words of a union type. */
  word<T extends string>(key: string, words: readonly T[]): T {
    const value = this.string(key);
    return words.find((w) => w === value) ?? this.#wrong(key, words.join(' or '));
  }

  /** A number written as hex text (or, tolerated, as a number). */
  hex(key: string): number {
    const value = this.#object[key];
    if (typeof value === 'number') return value;
    return typeof value === 'string' && /^0x[0-9a-f]+$/i.test(value)
      ? Number(BigInt(value))
      : this.#wrong(key, 'a hex string');
  }

  nullable<T>(key: string, read: (key: string) => T): T | null {
    return this.#object[key] === null || this.#object[key] === undefined ? null : read(key);
  }

  raw(key: string): Json | undefined {
    return this.#object[key];
  }

  numbers(key: string): number[] {
    return this.#array(key).map((v) => (typeof v === 'number' ? v : this.#wrong(key, 'numbers')));
  }

  strings(key: string): string[] {
    return this.#array(key).map((v) => (typeof v === 'string' ? v : this.#wrong(key, 'strings')));
  }

  list(key: string): Fields[] {
    return this.#array(key).map((v) => new Fields(v));
  }

  object(key: string): Fields {
    return new Fields(this.#object[key]);
  }

  #array(key: string): readonly Json[] {
    const value = this.#object[key];
    return Array.isArray(value) ? (value as readonly Json[]) : this.#wrong(key, 'an array'); // narrowed by isArray
  }

  #wrong(key: string, expected: string): never {
    throw new Error(`field ${key}: ${expected} was expected, found ${JSON.stringify(this.#object[key])}`);
  }
}

/** Hex text of an unsigned 64-bit value; negative numbers are what wrapped around. */
export const hex = (value: number): string => `0x${BigInt.asUintN(64, BigInt(value)).toString(16)}`;

/** Where two JSON values part: the path, and what stands there on either side (undefined: nothing). */
export interface Difference {
  readonly path: string;
  readonly expected: Json | undefined;
  readonly got: Json | undefined;
}

/** Deep equality of JSON values; the order of keys does not matter, that of entries does. Null, or where they first differ. */
export function firstDifference(got: Json | undefined, expected: Json | undefined, path = '$'): Difference | null {
  if (got === expected) return null;
  if (!isNode(got) || !isNode(expected) || Array.isArray(got) !== Array.isArray(expected))
    return { path, expected, got };
  const keys = new Set([...Object.keys(expected), ...Object.keys(got)]);
  for (const key of keys) {
    const difference = firstDifference(got[key], expected[key], `${path}.${key}`);
    if (difference !== null) return difference;
  }
  return null;
}

/** An object, or an array taken as one: it indexes the same way. */
const isNode = (value: Json | undefined): value is JsonObject => typeof value === 'object' && value !== null;
