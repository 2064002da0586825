// Damages files as transmission, bad firmware and bad people do: bits, lengths, cuts, pieces moved, doubled or taken from another
// file. The same seed gives the same damage.

/** Numbers of [0, below). */
export type Random = (below: number) => number;

/** xorshift: small, and the same everywhere. */
export function seededRandom(seed: number): Random {
  let state = (seed * 2_654_435_761 + 0x9e3779b9) >>> 0 || 1;
  const next = (): number => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state;
  };
  for (let i = 0; i < 4; i++) next();
  return (below) => (below <= 0 ? 0 : next() % below);
}

type Damage = (bytes: Uint8Array, random: Random, other: Uint8Array) => Uint8Array;

const EXTREMES = [0, 1, 2, 3, 4, 5, 6, 7, 8, 0x0f, 0x10, 0x18, 0x20, 0x7f, 0x80, 0xfe, 0xff] as const;
const LONGEST = 1 << 20;

const joined = (...parts: readonly Uint8Array[]): Uint8Array => {
  const whole = new Uint8Array(
    Math.min(
      LONGEST,
      parts.reduce((sum, part) => sum + part.length, 0),
    ),
  );
  let at = 0;
  for (const part of parts) {
    whole.set(part.subarray(0, whole.length - at), at);
    at = Math.min(whole.length, at + part.length);
  }
  return whole;
};

const stretch = (length: number, random: Random): readonly [number, number] => {
  const from = random(length + 1);
  return [from, from + random(Math.min(64, length - from) + 1)];
};

const bitFlips: Damage = (bytes, random) => {
  const copy = bytes.slice();
  for (let i = random(4); i >= 0; i--) {
    const at = random(copy.length);
    copy[at] = (copy[at] ?? 0) ^ (1 << random(8));
  }
  return copy;
};

/** A length, a type, a path: whatever stands there. */
const extremeByte: Damage = (bytes, random) => {
  const copy = bytes.slice();
  for (let i = random(3); i >= 0; i--) copy[random(copy.length)] = EXTREMES[random(EXTREMES.length)] ?? 0;
  return copy;
};

/** A 16, 32 or 64 bit field of extreme bytes, where such fields are: at even offsets. */
const extremeField: Damage = (bytes, random) => {
  const copy = bytes.slice();
  const at = random(copy.length) & ~1;
  const value = EXTREMES[random(EXTREMES.length)] ?? 0;
  copy.fill(random(2) === 0 ? value : 0, at, at + (2 << random(3))); // cut at the end
  if (at < copy.length) copy[at] = value;
  return copy;
};

const truncation: Damage = (bytes, random) => bytes.slice(0, random(bytes.length));

const removal: Damage = (bytes, random) => {
  const [from, to] = stretch(bytes.length, random);
  return joined(bytes.subarray(0, from), bytes.subarray(to));
};

const duplication: Damage = (bytes, random) => {
  const [from, to] = stretch(bytes.length, random);
  const copies = Array.from({ length: 1 + random(8) }, () => bytes.subarray(from, to));
  return joined(bytes.subarray(0, to), ...copies, bytes.subarray(to));
};

const splice: Damage = (bytes, random, other) => {
  const [from, to] = stretch(other.length, random);
  const at = random(bytes.length + 1);
  return joined(bytes.subarray(0, at), other.subarray(from, to), bytes.subarray(at + random(2) * (to - from)));
};

const crossing: Damage = (bytes, random, other) =>
  joined(bytes.subarray(0, random(bytes.length + 1)), other.subarray(random(other.length + 1)));

const DAMAGES = [bitFlips, extremeByte, extremeField, truncation, removal, duplication, splice, crossing] as const;

/** One to three damages of `seeds[n]`, pieces taken from the others. */
export function mutantOf(seeds: readonly Uint8Array[], random: Random): Uint8Array {
  const pick = (): Uint8Array => seeds[random(seeds.length)] ?? new Uint8Array();
  let mutant = pick();
  for (let i = random(3); i >= 0; i--) mutant = (DAMAGES[random(DAMAGES.length)] ?? bitFlips)(mutant, random, pick());
  return mutant;
}
