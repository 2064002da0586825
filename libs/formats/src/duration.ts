// Durations as people write them (`200us`, `1.5s`, `10m`) and the integer microseconds the rest of the program counts in.
// Knows nothing of clocks or of timeScale.

const UNIT_US: Readonly<Record<string, number>> = { us: 1, ms: 1000, s: 1_000_000, m: 60_000_000, h: 3_600_000_000 };
/** A day: longer than any run. */
const MAX_US = 86_400_000_000;

/** Whole microseconds, or null if the text is not a duration of at most a day. A unit is required. */
export function parseDuration(text: string): number | null {
  const match = /^(\d{1,12}(?:\.\d{1,6})?)(us|ms|s|m|h)$/.exec(text);
  if (!match) return null;
  const us = Math.round(Number(match[1]) * (UNIT_US[match[2] as string] as number)); // both groups matched
  return us <= MAX_US ? us : null;
}
