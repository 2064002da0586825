// The checks of single values in a call: each says what a value must be, how it travels, and its zod schema (for the protocol
// page and for the spec that compares both). Two ways to be wrong, as Xen tells them apart: a value that cannot be (EINVAL),
// and an argument that cannot be read (EFAULT). It knows no call.
//
// Why hand-made beside zod: a multicall of 1024 calls must be checked in 0.3 ms, and the numbers are one `if` each here.

import { z } from 'zod';
import type { Extents } from '#model/hypercall/calls';

/** What a decoder returns for a value that cannot be. */
export const badValue = Symbol('EINVAL');
/** … and for an argument that cannot be read. */
export const unreadable = Symbol('EFAULT');
export type Wrong = typeof badValue | typeof unreadable;
export const isWrong = (value: unknown): value is Wrong => value === badValue || value === unreadable;

export interface Check<T> {
  /** Never throws, whatever `wire` is. */
  readonly decode: (wire: unknown) => T | Wrong;
  readonly encode: (value: T) => unknown;
  /** Describes the wire form. */
  readonly schema: z.ZodType;
}

/** Frames travel up to Xen's "all ones" (INVALID_GFN has 37 bits here). */
export const FRAME_MAX = 2 ** 37;
const U32_MAX = 2 ** 32 - 1;
export const COUNT_MAX = 2 ** 32;

export function integer(max: number = Number.MAX_SAFE_INTEGER): Check<number> {
  return {
    decode: (wire) =>
      typeof wire === 'number' && wire >= 0 && wire <= max && Math.floor(wire) === wire ? wire + 0 : badValue,
    encode: (value) => value,
    schema: z.int().min(0).max(max),
  };
}

export const u16 = integer(0xffff);
export const u32 = integer(U32_MAX);
export const frame = integer(FRAME_MAX);
export const count = integer(COUNT_MAX);
export const safe = integer();
/** Wider than Xen's limit of 18, so that Xen's own answer applies to what a caller may not ask. */
export const order = integer(32);

export const flag: Check<boolean> = {
  decode: (wire) => (typeof wire === 'boolean' ? wire : badValue),
  encode: (value) => value,
  schema: z.boolean(),
};

export function text(max: number): Check<string> {
  return {
    decode: (wire) => (typeof wire !== 'string' ? unreadable : wire.length <= max ? wire : badValue),
    encode: (value) => value,
    schema: z.string().max(max),
  };
}

export function oneOf<const T extends string | number>(...values: readonly T[]): Check<T> {
  const allowed: readonly unknown[] = values;
  return {
    // The cast follows the test: `wire` is one of `values`.
    decode: (wire) => (allowed.includes(wire) ? (wire as T) : badValue),
    encode: (value) => value,
    schema: z.literal([...values]),
  };
}

/** A list of records, each travelling as the array of its fields in the declared order. */
export function records<T extends object>(max: number, fields: { readonly [K in keyof T]-?: Check<T[K]> }) {
  // Object.entries loses the key type that the parameter's type has.
  const columns = Object.entries(fields) as [keyof T & string, Check<T[keyof T]>][];
  const decodeOne = (wire: unknown): T | Wrong => {
    if (!Array.isArray(wire) || wire.length !== columns.length) return unreadable;
    const record: Record<string, unknown> = {};
    for (let i = 0; i < columns.length; i++) {
      // In range by the loop's bound.
      const [name, check] = columns[i] as (typeof columns)[number];
      const value = check.decode(wire[i]);
      if (isWrong(value)) return value;
      record[name] = value;
    }
    return record as T; // every field was set, each by its own check
  };
  const check: Check<readonly T[]> = {
    decode: (wire) => {
      if (!Array.isArray(wire)) return unreadable;
      if (wire.length > max) return badValue;
      const list: T[] = [];
      for (const item of wire) {
        const record = decodeOne(item);
        if (isWrong(record)) return record;
        list.push(record);
      }
      return list;
    },
    encode: (list) => list.map((record) => columns.map(([name, c]) => c.encode(record[name]))),
    // A tuple's type parameter wants a literal list; this one is built from the fields.
    schema: z.array(z.tuple(columns.map(([, c]) => c.schema) as [z.ZodType, ...z.ZodType[]])).max(max),
  };
  return check;
}

const packed32 = (numbers: ArrayLike<number>): string => {
  const list = Uint32Array.from(numbers);
  return Buffer.from(list.buffer, list.byteOffset, list.byteLength).toString('base64');
};

const packed64 = (numbers: ArrayLike<number>): string => {
  const list = Float64Array.from(numbers);
  return Buffer.from(list.buffer, list.byteOffset, list.byteLength).toString('base64');
};

/** base64 that is whole: the decoder skips what it does not know, so the length tells. */
function bytesOf(base64: unknown, size: number): Uint8Array<ArrayBuffer> | null {
  if (typeof base64 !== 'string' || base64.length % 4 !== 0) return null;
  const padding = base64.endsWith('==') ? 2 : base64.endsWith('=') ? 1 : 0;
  const length = (base64.length / 4) * 3 - padding;
  if (length % size !== 0) return null;
  const bytes = Buffer.from(base64, 'base64');
  if (bytes.length !== length) return null;
  return new Uint8Array(bytes); // a copy: Node's pool is not aligned
}

/** 32-bit numbers, packed little-endian as `{p: base64}`. */
export const packNumbers = (numbers: ArrayLike<number>): { p: string } => ({ p: packed32(numbers) });
export function unpackNumbers(wire: unknown): Uint32Array<ArrayBuffer> | null {
  const bytes = typeof wire === 'object' && wire !== null && 'p' in wire ? bytesOf(wire.p, 4) : null;
  return bytes && new Uint32Array(bytes.buffer);
}

function decodeRange(wire: readonly unknown[], max: number): Extents | Wrong {
  if (wire.length !== 2) return unreadable;
  const start = frame.decode(wire[0]);
  const many = count.decode(wire[1]);
  if (isWrong(start) || isWrong(many) || many > max) return badValue;
  return { start, count: many };
}

/** `{p}`: frames below 2^32, four bytes each; `{q}`: as doubles, for the few above (2^32 frames are 16 TiB). */
function decodeScattered(wire: object, max: number): Extents | Wrong {
  if ('p' in wire) {
    const frames = unpackNumbers(wire);
    if (frames === null) return unreadable;
    return frames.length <= max ? { frames } : badValue;
  }
  if (!('q' in wire)) return unreadable;
  const bytes = bytesOf(wire.q, 8);
  if (bytes === null) return unreadable;
  const frames = new Float64Array(bytes.buffer);
  if (frames.length > max || !frames.every((f) => frame.decode(f) !== badValue)) return badValue;
  return { frames };
}

function encodeExtents(extents: Extents): unknown {
  if (!('frames' in extents)) return [extents.start, extents.count];
  for (let i = 0; i < extents.frames.length; i++) {
    // In range by the loop's bound.
    if ((extents.frames[i] as number) > U32_MAX) return { q: packed64(extents.frames) };
  }
  return packNumbers(extents.frames);
}

export function extents(max: number = COUNT_MAX): Check<Extents> {
  return {
    decode: (wire) => {
      if (Array.isArray(wire)) return decodeRange(wire, max);
      return typeof wire === 'object' && wire !== null ? decodeScattered(wire, max) : unreadable;
    },
    encode: encodeExtents,
    schema: z
      .union([
        z.tuple([z.int().min(0).max(FRAME_MAX), z.int().min(0).max(max)]),
        z.object({ p: z.string() }),
        z.object({ q: z.string() }),
      ])
      .refine((wire) => !isWrong(extents(max).decode(wire)), 'not a whole packed array'),
  };
}
