// Ranges of addresses as every part of preflight handles them, and how they are written. Owns arithmetic only.

/** Bytes; `end` is the last one. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

export const PAGE = 4096;
export const MIB = 2 ** 20;
export const GIB = 2 ** 30;
export const FOUR_GIB = 2 ** 32;
export const KIB_PER_MIB = 1024;

/** Hexadecimal without 0x, as Xen and Linux print addresses. */
export const hex = (n: number): string => n.toString(16);
export const rangeText = ({ start, end }: ByteRange): string => `${hex(start)}–${hex(end)}`;

export const overlap = (a: ByteRange, b: ByteRange): ByteRange | null => {
  const start = Math.max(a.start, b.start);
  const end = Math.min(a.end, b.end);
  return start <= end ? { start, end } : null;
};

export const bytesOf = ({ start, end }: ByteRange): number => end - start + 1;

/** The pages a range touches, as a range of bytes. */
export const wholePages = ({ start, end }: ByteRange): ByteRange => ({
  start: start - (start % PAGE),
  end: end - (end % PAGE) + PAGE - 1,
});

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** In the largest unit that leaves at least one, one decimal where it is not whole. */
export function sizeText(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

/** `1 page`, `3 pages`. */
export const counted = (n: number, one: string, many = `${one}s`): string => `${n} ${n === 1 ? one : many}`;

/** Sorted, and neighbours that touch made one. */
export function merged(ranges: readonly ByteRange[]): ByteRange[] {
  const out: { start: number; end: number }[] = [];
  for (const { start, end } of ranges.toSorted((a, b) => a.start - b.start)) {
    const last = out.at(-1);
    if (last && start <= last.end + 1) last.end = Math.max(last.end, end);
    else out.push({ start, end });
  }
  return out;
}
