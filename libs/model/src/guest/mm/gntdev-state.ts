// What gntdev keeps in shared memory: its maps, each a run of grants of one domain that user space may map. Under the driver's
// lock.
const MAPS = 8;
export const MAP_PAGES = 16;
/** Words of a map before its pages. `refs`: file descriptor and queued work that keep it; `live`: grants still mapped. */
const FIELDS = { used: 0, sub: 1, start: 2, count: 3, live: 4, domid: 5, attempt: 6, due: 7 } as const;
/** Words of a page: grant reference, handle + 1, its slot's frame + 1, 1 once it is being removed. */
const PAGE_FIELDS = { ref: 0, handle: 1, frame: 2, removing: 3 } as const;
const MAP_WORDS = 8 + MAP_PAGES * 4;

export const gntdevBytes = (): number => MAPS * MAP_WORDS * 4;

export class GntdevState {
  private readonly words: Int32Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer) {
    this.words = new Int32Array(buffer);
  }

  get(map: number, field: keyof typeof FIELDS): number {
    return Atomics.load(this.words, map * MAP_WORDS + FIELDS[field]);
  }
  set(map: number, field: keyof typeof FIELDS, value: number): void {
    Atomics.store(this.words, map * MAP_WORDS + FIELDS[field], value);
  }
  page(map: number, page: number, field: keyof typeof PAGE_FIELDS): number {
    return Atomics.load(this.words, map * MAP_WORDS + 8 + page * 4 + PAGE_FIELDS[field]);
  }
  setPage(map: number, page: number, field: keyof typeof PAGE_FIELDS, value: number): void {
    Atomics.store(this.words, map * MAP_WORDS + 8 + page * 4 + PAGE_FIELDS[field], value);
  }

  maps(): number[] {
    return Array.from({ length: MAPS }, (_, map) => map).filter((map) => this.get(map, 'used') !== 0);
  }

  /** A free map, -1 if there is none. */
  take(): number {
    const map = Array.from({ length: MAPS }, (_, i) => i).find((i) => this.get(i, 'used') === 0) ?? -1;
    if (map >= 0) {
      this.words.fill(0, map * MAP_WORDS, (map + 1) * MAP_WORDS);
      this.set(map, 'used', 1);
    }
    return map;
  }
}
