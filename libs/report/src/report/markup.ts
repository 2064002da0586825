// Markup that cannot be injected into: the `html` template escapes every value put into it, except pieces that the same
// template made. All text of a report may come from a hostile guest, so nothing else builds markup. Sizes, times and
// numbers are worded here too.

/** A finished piece of markup. Only this file makes one. */
export class Markup {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

export type Piece = Markup | string | number | null | undefined | false | readonly Piece[];

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Control characters become their pictures; those that reorder or hide text (bidi, zero width) their code points. */
function visible(char: string): string {
  const code = char.codePointAt(0) ?? 0;
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  return code === 0x7f ? '\u2421' : `[U+${code.toString(16).toUpperCase().padStart(4, '0')}]`;
}

export function escapeText(text: string): string {
  return text
    .toWellFormed()
    .replace(/(?![\n\t])[\p{Cc}\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu, visible)
    .replace(/[&<>"']/g, (char) => ENTITIES[char] ?? char);
}

function render(piece: Piece): string {
  if (piece instanceof Markup) return piece.text;
  if (piece === null || piece === undefined || piece === false) return '';
  if (typeof piece === 'string') return escapeText(piece);
  if (typeof piece === 'number') return `${piece}`;
  return piece.map(render).join('');
}

/** Template for markup, HTML or SVG. */
export function html(strings: TemplateStringsArray, ...pieces: readonly Piece[]): Markup {
  return new Markup(strings.reduce((text, part, i) => text + render(pieces[i - 1]) + part));
}

/** Prose in which `text between backticks` is code. */
export const prose = (text: string): Piece =>
  text.split('`').map((part, i) => (i % 2 === 1 ? html`<code>${part}</code>` : part));

const groups = new Intl.NumberFormat('en-US');
export const count = (n: number): string => groups.format(n);
export const plural = (n: number, one: string, many = `${one}s`): string => `${count(n)} ${n === 1 ? one : many}`;

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** 1 KiB = 1024 bytes. Exact where four digits suffice (2047 MiB, not 2.00 GiB), else rounded. */
export function bytes(n: number): string {
  let unit = 0;
  let value = n;
  while (value >= 1024 && unit < UNITS.length - 1 && (value >= 10_000 || value % 1024 === 0)) {
    value /= 1024;
    unit++;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(value < 100 ? 2 : 1)} ${UNITS[unit]}`;
}

/** A duration given in microseconds. */
export function duration(us: number): string {
  if (us < 1000) return `${Number(us.toFixed(us < 10 ? 2 : 0))} µs`;
  if (us < 1_000_000) return `${Number((us / 1000).toFixed(us < 100_000 ? 2 : 1))} ms`;
  return `${Number((us / 1_000_000).toFixed(us < 100_000_000 ? 2 : 1))} s`;
}

export const hex = (n: number, width = 0): string => n.toString(16).padStart(width, '0');

/** A point in time of the run, given in microseconds, to the microsecond so that neighbours can be told apart. */
export const instant = (us: number): string => `${(us / 1_000_000).toFixed(6)} s`;
