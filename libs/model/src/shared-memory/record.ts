// Declared records: a name, field types, and typed accessors over shared memory, so that model code reads as fields and not
// as index arithmetic. A record lives in two typed arrays: 32-bit words (usable with Atomics) and doubles (integers < 2^53).

export type FieldType = 'i32' | 'f64' | readonly ['i32' | 'f64', number];
export type Fields = Record<string, FieldType>;

type I32 = Int32Array<SharedArrayBuffer>;
type F64 = Float64Array<SharedArrayBuffer>;

type FieldValue<T extends FieldType> = T extends readonly ['i32', number]
  ? I32
  : T extends readonly ['f64', number]
    ? F64
    : number;

/** A view of one record: its fields, plus the raw words and where each i32 field lies in them (for Atomics). */
export type RecordView<F extends Fields> = {
  -readonly [K in keyof F]: FieldValue<F[K]>;
} & { readonly words: I32; readonly doubles: F64 };

export interface RecordType<F extends Fields> {
  readonly name: string;
  /** Bytes of `count` records. */
  bytes(count: number): number;
  /** Word index of an i32 field inside `view.words`. */
  readonly at: { readonly [K in keyof F]: number };
  view(buffer: SharedArrayBuffer, index: number, count: number): RecordView<F>;
}

/**
 * Declares a record type. All doubles of all records come first in the buffer (alignment), then all words.
 * Scalars read and write plainly; use `Atomics.*(view.words, type.at.field, …)` where another thread races.
 */
export function defineRecord<const F extends Fields>(name: string, fields: F): RecordType<F> {
  const at: Record<string, number> = {};
  let words = 0;
  let doubles = 0;
  class View {
    readonly words: I32;
    readonly doubles: F64;
    constructor(wordArray: I32, doubleArray: F64) {
      this.words = wordArray;
      this.doubles = doubleArray;
    }
  }
  for (const [field, type] of Object.entries(fields)) {
    const [kind, length] = typeof type === 'string' ? [type, 0] : type;
    const index = kind === 'i32' ? words : doubles;
    at[field] = index;
    if (kind === 'i32') words += length || 1;
    else doubles += length || 1;
    Object.defineProperty(View.prototype, field, accessor(kind, index, length));
  }
  const wordsPadded = words + (words % 2);
  return {
    name,
    bytes: (count) => count * (doubles * 8 + wordsPadded * 4),
    at: at as { readonly [K in keyof F]: number }, // filled for every key just above
    view(buffer, index, count) {
      const doubleArray = new Float64Array(buffer, index * doubles * 8, doubles);
      const wordArray = new Int32Array(buffer, count * doubles * 8 + index * wordsPadded * 4, wordsPadded);
      // The accessors defined on the prototype are exactly F's fields.
      return new View(wordArray, doubleArray) as unknown as RecordView<F>;
    },
  };
}

interface Raw {
  readonly words: I32;
  readonly doubles: F64;
}

function accessor(kind: 'i32' | 'f64', index: number, length: number): PropertyDescriptor & ThisType<Raw> {
  if (length > 0) {
    return {
      get() {
        return kind === 'i32'
          ? this.words.subarray(index, index + length)
          : this.doubles.subarray(index, index + length);
      },
    };
  }
  if (kind === 'i32') {
    return {
      get() {
        return this.words[index];
      },
      set(value: number) {
        this.words[index] = value;
      },
    };
  }
  return {
    get() {
      return this.doubles[index];
    },
    set(value: number) {
      this.doubles[index] = value;
    },
  };
}
