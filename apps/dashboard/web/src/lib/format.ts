// Numbers as the field writes them: frames in hexadecimal, sizes in MiB, times in µs or ms.
const PAGES_PER_MIB = 256;

export const hex = (n: number): string => n.toString(16);
export const mib = (pages: number): number => Math.round(pages / PAGES_PER_MIB);

/** `1,234 MiB`, or GiB from 10 GiB on. */
export function memory(pages: number): string {
  const size = pages / PAGES_PER_MIB;
  if (size >= 10_240) return `${(size / 1024).toFixed(1)} GiB`;
  if (size > 0 && size < 1) return `${pages * 4} KiB`;
  return `${Math.round(size).toLocaleString('en')} MiB`;
}

export function duration(us: number): string {
  if (us <= 0) return '–';
  if (us < 10) return `${us.toFixed(1)} µs`;
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 1e6) return `${(us / 1000).toFixed(us < 10_000 ? 1 : 0)} ms`;
  return `${(us / 1e6).toFixed(1)} s`;
}

export function count(n: number): string {
  if (n < 10_000) return Math.round(n).toLocaleString('en');
  if (n < 1e6) return `${(n / 1e3).toFixed(n < 1e5 ? 1 : 0)} k`;
  return `${(n / 1e6).toFixed(1)} M`;
}

export const rate = (n: number): string => (n === 0 ? '0' : n < 10 ? n.toFixed(1) : count(n));

export function sbdf(n: number): string {
  const part = (value: number, width: number): string => value.toString(16).padStart(width, '0');
  const bus = (n >>> 8) & 0xff;
  return `${part(Math.floor(n / 65536), 4)}:${part(bus, 2)}:${part((n >>> 3) & 31, 2)}.${n & 7}`;
}

export function clock(tsMs: number): string {
  const at = new Date(tsMs);
  return `${at.toTimeString().slice(0, 8)}.${String(at.getMilliseconds()).padStart(3, '0')}`;
}

/** `4K`, `2M`, `1G`. */
export const order = (n: number): string => (n >= 18 ? '1G' : n >= 9 ? '2M' : '4K');

/** `populateOnDemand` → `populate_on_demand`, as Xen writes its types. */
export const typeName = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

export const orderSize = (n: number): string => {
  const kib = 4 * 2 ** n;
  return kib < 1024 ? `${kib} KiB` : kib < 1024 * 1024 ? `${kib / 1024} MiB` : `${kib / 1024 / 1024} GiB`;
};
