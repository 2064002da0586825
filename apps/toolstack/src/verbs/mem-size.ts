// Sizes as xl's memory verbs read them: a number and one letter at most; MiB without one.

const FACTOR_KB: Readonly<Record<string, number>> = {
  b: 1 / 1024,
  k: 1,
  m: 1024,
  '': 1024,
  g: 1024 ** 2,
  t: 1024 ** 3,
};

/** KiB, or null: not a size. */
export function parseMemSizeKb(text: string): number | null {
  const match = /^(\d+)([a-z]?)$/i.exec(text);
  const factor = FACTOR_KB[match?.[2]?.toLowerCase() ?? '?'];
  if (!match || factor === undefined) return null;
  const kb = Math.floor(Number(match[1]) * factor);
  return Number.isSafeInteger(kb) ? kb : null;
}
