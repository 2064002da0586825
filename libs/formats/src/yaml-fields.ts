// The kinds of value that host descriptions and scenarios are written with: addresses in hex, sizes, durations, SBDFs,
// names. Owns their syntax and units; which of them stands where is the business of the file that uses them.
import { z } from 'zod';
import { MAX_GFN, parseSbdf, type Sbdf } from '#model/frames/addresses';
import { parseDuration } from './duration.ts';
import { parseSize } from './size.ts';

/** A field read from text by `parse`; `remedy` is shown when it answers null. */
function parsed<T>(parse: (text: string) => T | null, message: string, remedy: string) {
  return z.unknown().transform((value, context): T => {
    const result = typeof value === 'string' || typeof value === 'number' ? parse(String(value)) : null;
    if (result !== null) return result;
    context.addIssue({ code: 'custom', message, params: { remedy } });
    return z.NEVER;
  });
}

const parseHex = (text: string): number | null => {
  const match = /^0x([0-9a-f]{1,13})$/i.exec(text);
  const value = match ? Number.parseInt(match[1] as string, 16) : Number.NaN; // the group matched
  return value < 2 ** 52 ? value : null;
};

const parseGfn = (text: string): number | null => {
  const value = parseHex(text);
  return value !== null && value <= MAX_GFN ? value : null;
};

const parseId = (text: string): { vendor: number; device: number } | null => {
  const match = /^([0-9a-f]{4}):([0-9a-f]{4})$/i.exec(text);
  if (!match) return null;
  return { vendor: Number.parseInt(match[1] as string, 16), device: Number.parseInt(match[2] as string, 16) }; // matched
};

/** A byte address below 2^52. Decimal is refused: an address without 0x is almost always a slip. */
export const address = parsed(parseHex, 'must be an address in hex', 'write it with 0x, as in 0xad000000');
export const frameNumber = parsed(parseGfn, 'must be a frame number in hex', 'write it with 0x, as in 0x7d0d6');
export const sizeBytes = parsed(parseSize, 'must be a size', 'write it as 4K, 256M, 1G or 0x1000');
export const durationUs = parsed(parseDuration, 'must be a duration', 'write it with a unit, as in 500us, 20ms or 2s');
export const sbdfField = parsed<Sbdf>(parseSbdf, 'must be a PCI address', 'write it as 0000:03:00.0');
export const pciId = parsed(parseId, 'must be vendor:device', 'write it as 8086:0412');
/** PCI class code, 24 bits. */
export const pciClass = parsed(
  (text) => {
    const value = parseHex(text);
    return value !== null && value < 2 ** 24 ? value : null;
  },
  'must be a class code of 24 bits in hex',
  'write it as 0x030000',
);

export const count = z.int().min(0);
export const positive = z.int().min(1);
/** 16 TiB: more than Xen's largest host. */
export const mebibytes = z
  .int()
  .min(1)
  .max(2 ** 24);

const NAME = /^[a-z0-9][a-z0-9._-]{0,62}$/i;
/** Names of hosts, guests and twins: they become parts of file names and of queue names. */
export const name = z.unknown().transform((value, context): string => {
  if (typeof value === 'string' && NAME.test(value)) return value;
  const remedy = 'use letters, digits, dot, dash and underscore, beginning with a letter or digit, at most 63';
  context.addIssue({ code: 'custom', message: 'must be a name', params: { remedy } });
  return z.NEVER;
});

/** A regular expression, kept as its source. */
export const regex = parsed(
  (text) => {
    try {
      new RegExp(text, 'mu');
      return text;
    } catch {
      return null;
    }
  },
  'must be a regular expression',
  'escape brackets, dots and braces with a backslash: \\[VT-D\\]',
);
