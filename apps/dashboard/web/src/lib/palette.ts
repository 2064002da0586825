// Colours: one hue a domain (Okabe and Ito's, which readers who see colours differently can tell apart), dom0 first; and what
// the canvases need of the page's theme. A pattern says the state, never colour alone.

export type Rgb = readonly [number, number, number];

const HUES: readonly Rgb[] = [
  [86, 180, 233],
  [230, 159, 0],
  [0, 158, 115],
  [204, 121, 167],
  [240, 228, 66],
  [0, 114, 178],
  [213, 94, 0],
];

/** dom0 has the first for itself, the others take turns. */
export const hueOf = (domid: number): Rgb =>
  domid <= 0 ? (HUES[0] as Rgb) : (HUES[1 + ((domid - 1) % (HUES.length - 1))] as Rgb); // within the list

export const css = ([r, g, b]: Rgb, alpha = 1): string => `rgb(${r} ${g} ${b} / ${alpha})`;
export const mix = (a: Rgb, b: Rgb, share: number): Rgb => [
  Math.round(a[0] + (b[0] - a[0]) * share),
  Math.round(a[1] + (b[1] - a[1]) * share),
  Math.round(a[2] + (b[2] - a[2]) * share),
];

export interface Theme {
  readonly dark: boolean;
  readonly page: Rgb;
  readonly card: Rgb;
  readonly sunk: Rgb;
  readonly line: Rgb;
  readonly ink: Rgb;
  readonly soft: Rgb;
  readonly faint: Rgb;
}

const light: Theme = {
  dark: false,
  page: [243, 245, 249],
  card: [255, 255, 255],
  sunk: [232, 236, 243],
  line: [214, 220, 231],
  ink: [23, 27, 38],
  soft: [79, 89, 110],
  faint: [130, 140, 161],
};
const dark: Theme = {
  dark: true,
  page: [11, 14, 20],
  card: [19, 24, 34],
  sunk: [27, 33, 46],
  line: [41, 49, 66],
  ink: [231, 234, 242],
  soft: [163, 173, 194],
  faint: [112, 123, 147],
};
export const themeOf = (isDark: boolean): Theme => (isDark ? dark : light);

export const FAULT: Rgb = [229, 57, 53];
export const WARN: Rgb = [245, 166, 35];

/** A lock keeps its colour from one look to the next. */
export function lockHue(name: string): Rgb {
  const base = name.replace(/\(.*/, '');
  let sum = 7;
  for (const letter of base) sum = (sum * 31 + letter.charCodeAt(0)) >>> 0;
  return LOCKS[sum % LOCKS.length] as Rgb; // within the list
}
const LOCKS: readonly Rgb[] = [
  [94, 129, 244],
  [46, 184, 172],
  [178, 120, 222],
  [226, 135, 67],
  [88, 176, 88],
  [214, 100, 148],
  [120, 144, 170],
];
