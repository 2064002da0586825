// C's text-to-integer conversions as the toolstack and firmware use them: strtol, strtoul and sscanf's %x on 64-bit longs.
// Values are plain numbers; beyond 2^53 the decimal text stays exact. Knows nothing of who parses what.

const LONG_MAX = '9223372036854775807';
const LONG_MIN_MAGNITUDE = '9223372036854775808';
const LIMB = 10_000_000;
const LIMB_DIGITS = 7;

export interface ParsedLong {
  readonly value: number;
  /** The exact value, also where `value` is rounded. */
  readonly decimal: string;
  /** Characters consumed; 0 if there was no number. */
  readonly length: number;
  readonly outOfRange: boolean;
}

const digitOf = (c: string | undefined): number => {
  const d = c === undefined ? Number.NaN : Number.parseInt(c, 36);
  return Number.isNaN(d) ? 99 : d;
};

const isBlank = (c: string | undefined): boolean => c !== undefined && ' \t\n\v\f\r'.includes(c);

/** Decimal text of a digit string in another base. */
function toDecimal(digits: readonly number[], base: number): string {
  const limbs = [0];
  for (const digit of digits) {
    let carry = digit;
    for (let i = 0; i < limbs.length; i++) {
      const v = (limbs[i] ?? 0) * base + carry;
      limbs[i] = v % LIMB;
      carry = Math.floor(v / LIMB);
    }
    if (carry > 0) limbs.push(carry);
  }
  const [top = 0, ...rest] = limbs.reverse();
  return String(top) + rest.map((limb) => String(limb).padStart(LIMB_DIGITS, '0')).join('');
}

const exceeds = (a: string, b: string): boolean => (a.length === b.length ? a > b : a.length > b.length);

interface Scan {
  readonly negative: boolean;
  readonly digits: number[];
  readonly base: number;
  /** A 0x stood before the digits. */
  readonly prefixed: boolean;
  readonly end: number;
}

/** Blanks, sign, prefix, digits. `end` is 0 when there is no digit. */
function scan(text: string, base: number): Scan {
  let at = 0;
  while (isBlank(text[at])) at++;
  const sign = text[at];
  if (sign === '+' || sign === '-') at++;
  let radix = base;
  const prefixed = text[at] === '0' && (text[at + 1] === 'x' || text[at + 1] === 'X') && digitOf(text[at + 2]) < 16;
  if (prefixed && (base === 0 || base === 16)) {
    radix = 16;
    at += 2;
  } else if (base === 0) {
    radix = text[at] === '0' ? 8 : 10;
  }
  const digits: number[] = [];
  while (digitOf(text[at]) < radix) digits.push(digitOf(text[at++]));
  return { negative: sign === '-', digits, base: radix, prefixed, end: digits.length > 0 ? at : 0 };
}

/** strtol(text, &end, base); `base` 0 takes 0x and a leading 0 as C does. Saturates at 64 bits, and says so. */
export function parseLong(text: string, base: 0 | 10 | 16): ParsedLong {
  const s = scan(text, base);
  const magnitude = toDecimal(s.digits, s.base);
  const limit = s.negative ? LONG_MIN_MAGNITUDE : LONG_MAX;
  const outOfRange = exceeds(magnitude, limit);
  const shown = outOfRange ? limit : magnitude;
  const decimal = s.negative && shown !== '0' ? `-${shown}` : shown;
  return { value: Number(decimal), decimal, length: s.end, outOfRange };
}

/** Characters that strtoul(text, &end, 10) would consume. */
export const decimalLength = (text: string): number => scan(text, 10).end;

/** atoi as it is used for flags: does the value's low 32 bits have any bit set? */
export function atoiIsTrue(text: string): boolean {
  const parsed = parseLong(text, 10);
  // Saturated: LONG_MAX truncates to -1, LONG_MIN to 0.
  if (parsed.outOfRange) return parsed.value > 0;
  return parsed.value % 2 ** 32 !== 0;
}

export interface ScannedHex {
  /** The low 32 bits of what was read: an unsigned int. */
  readonly value: number;
  readonly length: number;
}

/** One sscanf("%x"): leading blanks, sign and 0x are taken (a bare 0x is 0); null if nothing matches. */
export function scanHex(text: string): ScannedHex | null {
  const s = scan(text, 16);
  if (s.end === 0) return null;
  const bareZero = !s.prefixed && s.digits.length === 1 && s.digits[0] === 0;
  if (bareZero && /[xX]/.test(text[s.end] ?? '')) return { value: 0, length: s.end + 1 };
  const significant = s.digits.slice(
    Math.max(
      0,
      s.digits.findIndex((d) => d !== 0),
    ),
  );
  // strtoul saturates above 64 bits; then the unsigned int is all ones, whatever the sign.
  if (significant.length > 16) return { value: 0xffffffff, length: s.end };
  const low = significant.slice(-8).reduce((v, d) => v * 16 + d, 0);
  return { value: (s.negative ? -low : low) >>> 0, length: s.end };
}
