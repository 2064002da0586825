// The only module that reads or writes live table slots. A slot is one 8-byte double holding an integer below 2^53; one slot
// store is one aligned 8-byte move on 64-bit V8, so a concurrent walker sees the old or the new entry, never a mixture.
// ECMAScript does not promise that: slots.spec.ts runs a tear test. A read-modify-write needs the table's lock.

export type Slots = Float64Array<SharedArrayBuffer>;

export const load = (slots: Slots, index: number): number => slots[index] as number;

export const store = (slots: Slots, index: number, value: number): void => {
  slots[index] = value;
};

const fence = new Int32Array(new SharedArrayBuffer(4));

/**
 * Where Xen has a write barrier before it links a table: everything stored before is visible before anything stored after,
 * on weakly ordered CPUs too (an Atomics operation is sequentially consistent).
 */
export const publish = (): void => {
  Atomics.add(fence, 0, 1);
};
