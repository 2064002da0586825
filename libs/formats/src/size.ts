// Sizes as people write them (`64K`, `256M`, `1G`, `0x40000`, `96`) in bytes. The units are powers of 1024. Knows nothing of
// what is measured: whether a size may be this large, or must be a power of two, is the caller's business.

const UNIT_BYTES: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** Bytes, or null if the text is not a size below 2^52. */
export function parseSize(text: string): number | null {
  const hex = /^0x([0-9a-f]{1,13})$/i.exec(text);
  if (hex) return Number.parseInt(hex[1] as string, 16); // the group matched
  const match = /^(\d{1,15})([KMGT]?)$/.exec(text);
  if (!match) return null;
  const bytes = Number(match[1]) * (UNIT_BYTES[match[2] as string] as number); // both groups matched
  return bytes < 2 ** 52 ? bytes : null;
}
