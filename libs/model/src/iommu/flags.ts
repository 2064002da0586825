// The flag words of the generic IOMMU interface, with Xen's values: what a mapping allows, and which kind of flush a change
// of tables asks for. Numbers only; who sets and who honours them is elsewhere.

export const IOMMUF_readable = 1 << 6;
export const IOMMUF_writable = 1 << 7;
export const IOMMUF_preempt = 1 << 8;

/** Entries that were absent became present. */
export const FLUSHF_added = 1;
/** Entries that were present changed or went away. */
export const FLUSHF_modified = 2;
/** A table changed its level or went away: one address is not enough. */
export const FLUSHF_all = 4;

/** What a sequence of map and unmap operations asks to be flushed; handed down and or-ed into. */
export class FlushFlags {
  bits = 0;
}
