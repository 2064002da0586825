// A memory map without overlaps on which ranges are laid one after the other, the later one covering the earlier: how a BIOS
// and a kernel keep theirs. Owns the bookkeeping (splitting, joining, order), and knows no rule about what is laid.
import type { E820Entry, E820Type } from '../toolstack/e820.ts';

export class E820Overlay {
  #entries: E820Entry[] = [];

  /** Ascending, without overlaps; neighbours of one type are one entry. */
  get entries(): readonly E820Entry[] {
    return this.#entries;
  }

  /** [start, end) becomes `type`, whatever it was. */
  lay(start: number, end: number, type: E820Type): void {
    if (end <= start) return;
    this.clear(start, end);
    const all = [...this.#entries, { addr: start, size: end - start, type }].sort((a, b) => a.addr - b.addr);
    this.#entries = all.reduce<E820Entry[]>((joined, entry) => {
      const last = joined.at(-1);
      if (last && last.type === entry.type && last.addr + last.size === entry.addr) {
        joined[joined.length - 1] = { ...last, size: last.size + entry.size };
      } else joined.push(entry);
      return joined;
    }, []);
  }

  /** [start, end) becomes a hole. */
  clear(start: number, end: number): void {
    if (end <= start) return;
    this.#entries = this.#entries.flatMap(({ addr, size, type }) => [
      ...(addr < start ? [{ addr, size: Math.min(addr + size, start) - addr, type }] : []),
      ...(addr + size > end ? [{ addr: Math.max(addr, end), size: addr + size - Math.max(addr, end), type }] : []),
    ]);
  }
}
