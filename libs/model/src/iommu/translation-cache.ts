// What one IOMMU unit caches, in shared memory: the IOTLB (a bank of leaves per page size), the paging-structure caches (a
// bank per level) and the context cache. DMA threads fill it without a lock; pCPUs invalidate it. It knows keys, values and
// versions; what a value means is known by those who fill it.
//
// An entry is a key (domain id and page number, 0 = empty), a value (one Float64 slot), an extra word and a version.
//   reader       key matches → version (even) → key → value → version again, unchanged
//   filler       version v even → CAS to v+1 (odd: taken) → key, value → "no flush began since I opened?" → CAS to v+2
//   invalidator  version odd → CAS to odd+2, so that the filler's last CAS fails and it discards; even → key := 0 if it matches
//
// Why no stale entry survives an invalidation (all steps named are sequentially consistent). The flusher changes the tables,
// bumps the unit's flush sequence (B), visits every slot, samples which transactions are open (Q) and waits for those. Take a
// fill whose walk may have read old tables; then it opened before B. Its re-check of the sequence comes after its CAS to odd.
//   re-check after B          it sees the new sequence and discards.
//   re-check before B         its CAS to odd is older than the visit of that slot: the visitor finds it odd and makes the
//                             publishing CAS fail, or finds it published and empties it.
// So after the visit no slot shows an old translation. A transaction that used one read it before the visit, so it opened
// before Q, and the flusher waits for it. One that opens after Q finds neither old entries nor old tables.
//
// A domain that no device filled anything for since its last invalidation needs no visit at all. Fills of a domain id are
// counted (C) before the CAS to odd; a domain invalidation reads the count before B (c0) and after B (c1), and skips when c1 is
// the c0 of its last visit. A filler counted by c1 was then counted before that visit's B, and that visit dealt with it; one
// counted later re-checks the sequence after B and discards.
import { publish } from '../shared-memory/slots.ts';

/** Banks of a unit's cache. Leaf banks are numbered by the level of the leaf. */
export const bank = { leaf4k: 0, leaf2m: 1, leaf1g: 2, tableOf2m: 3, tableOf1g: 4, context: 5 } as const;
const BANKS = 6;
/** log2 of the pages that one entry covers. */
const SHIFTS = [0, 9, 18, 9, 18, 0] as const;
const SETS = [64, 16, 8, 32, 8] as const;
const WAYS = [8, 8, 4, 4, 4, 1] as const;
/** A page number of the IOMMU's input has at most 36 bits (48-bit addresses), a domain id 16. */
const DID_SCALE = 2 ** 36;
/** Domain ids whose fills are counted; others (quarantined devices, caching-mode units) are always visited. */
const COUNTED_DIDS = 1024;
/** A range of more entries than this is dropped by looking at the whole bank. */
const PROBE_LIMIT = 8;

function setsOf(index: number, devices: number): number {
  return index === bank.context ? 2 ** Math.ceil(Math.log2(Math.max(devices, 1))) : (SETS[index] as number); // index < BANKS
}

export interface CachedTranslation {
  readonly bank: number;
  readonly did: number;
  /** First frame that the entry covers. */
  readonly frame: number;
  readonly order: number;
  readonly value: number;
  readonly extra: number;
}

export class TranslationCache {
  static entries(devices: number): number {
    let sum = 0;
    for (let i = 0; i < BANKS; i++) sum += setsOf(i, devices) * (WAYS[i] as number);
    return sum;
  }
  static bytes(devices: number): number {
    return TranslationCache.entries(devices) * 24 + COUNTED_DIDS * 8;
  }

  private readonly keys: Float64Array<SharedArrayBuffer>;
  private readonly values: Float64Array<SharedArrayBuffer>;
  private readonly versions: Int32Array<SharedArrayBuffer>;
  private readonly extras: Int32Array<SharedArrayBuffer>;
  private readonly flushSequence: Int32Array<SharedArrayBuffer>;
  /** Fills per domain id, and the count that its last visited invalidation had seen. */
  private readonly fills: Int32Array<SharedArrayBuffer>;
  private readonly visited: Int32Array<SharedArrayBuffer>;
  private countBefore = 0;
  private readonly first: number[] = [];
  private readonly masks: number[] = [];
  /** The extra word of the last hit. */
  extra = 0;

  /** `buffer` from byte `at` (8-aligned): TranslationCache.bytes. `flushSequence`: one word, this unit's. */
  constructor(buffer: SharedArrayBuffer, at: number, devices: number, flushSequence: Int32Array<SharedArrayBuffer>) {
    const n = TranslationCache.entries(devices);
    this.keys = new Float64Array(buffer, at, n);
    this.values = new Float64Array(buffer, at + n * 8, n);
    this.versions = new Int32Array(buffer, at + n * 16, n);
    this.extras = new Int32Array(buffer, at + n * 20, n);
    this.fills = new Int32Array(buffer, at + n * 24, COUNTED_DIDS);
    this.visited = new Int32Array(buffer, at + n * 24 + COUNTED_DIDS * 4, COUNTED_DIDS);
    this.flushSequence = flushSequence;
    let start = 0;
    for (let i = 0; i < BANKS; i++) {
      this.first.push(start);
      this.masks.push(setsOf(i, devices) - 1);
      start += setsOf(i, devices) * (WAYS[i] as number);
    }
  }

  /** To be read when a transaction opens and handed to its fills. */
  get sequence(): number {
    return Atomics.load(this.flushSequence, 0);
  }

  /** The first slot of the set where the page is kept. */
  private setOf(index: number, did: number, page: number): number {
    const hash = (page ^ Math.floor(page / 64) ^ (did * 5)) & (this.masks[index] as number);
    return (this.first[index] as number) + hash * (WAYS[index] as number);
  }

  /** The cached value, or -1; `extra` is then set too. */
  lookup(index: number, did: number, frame: number): number {
    const page = Math.floor(frame / 2 ** (SHIFTS[index] as number));
    const key = did * DID_SCALE + page + 1;
    const { keys, versions } = this;
    let at = this.setOf(index, did, page);
    for (const end = at + (WAYS[index] as number); at < end; at++) {
      if (keys[at] !== key) continue;
      const version = Atomics.load(versions, at);
      if ((version & 1) !== 0 || keys[at] !== key) continue;
      const value = this.values[at] as number;
      const extra = this.extras[at] as number;
      publish();
      if (Atomics.load(versions, at) !== version) continue;
      this.extra = extra;
      return value;
    }
    return -1;
  }

  /** Caches a translation, unless a flush began since `sequence` was read or another thread fills the same slot now. */
  fill(index: number, did: number, frame: number, value: number, extra: number, sequence: number): void {
    const page = Math.floor(frame / 2 ** (SHIFTS[index] as number));
    const key = did * DID_SCALE + page + 1;
    const { keys, versions } = this;
    const at = this.victim(index, this.setOf(index, did, page), key);
    if (did < COUNTED_DIDS) Atomics.add(this.fills, did, 1);
    const version = Atomics.load(versions, at);
    if ((version & 1) !== 0 || Atomics.compareExchange(versions, at, version, version + 1) !== version) return;
    keys[at] = key;
    this.values[at] = value;
    this.extras[at] = extra;
    const quiet = Atomics.load(this.flushSequence, 0) === sequence;
    if (quiet && Atomics.compareExchange(versions, at, version + 1, version + 2) === version + 1) return;
    keys[at] = 0;
    Atomics.add(versions, at, 1);
  }

  /** The slot that has the key already, else an empty one, else the one changed least often. */
  private victim(index: number, start: number, key: number): number {
    let best = start;
    let empty = -1;
    for (let at = start; at < start + (WAYS[index] as number); at++) {
      if (this.keys[at] === key) return at;
      if (this.keys[at] === 0 && empty < 0) empty = at;
      if ((this.versions[at] as number) - (this.versions[best] as number) < 0) best = at;
    }
    return empty >= 0 ? empty : best;
  }

  private drop(at: number, low: number, high: number): void {
    for (;;) {
      const version = Atomics.load(this.versions, at);
      if ((version & 1) !== 0) {
        if (Atomics.compareExchange(this.versions, at, version, version + 2) === version) return;
        continue;
      }
      const key = this.keys[at] as number;
      if (key >= low && key <= high) this.keys[at] = 0;
      return;
    }
  }

  /** Drops entries of `did` whose page is in [firstPage, lastPage] of that bank. */
  private dropPages(index: number, did: number, firstPage: number, lastPage: number): void {
    const low = did * DID_SCALE + firstPage + 1;
    const high = did * DID_SCALE + lastPage + 1;
    const ways = WAYS[index] as number;
    if (lastPage - firstPage < PROBE_LIMIT) {
      for (let page = firstPage; page <= lastPage; page++) {
        const start = this.setOf(index, did, page);
        for (let at = start; at < start + ways; at++) this.drop(at, low, high);
      }
      return;
    }
    const start = this.first[index] as number;
    const end = start + ((this.masks[index] as number) + 1) * ways;
    for (let at = start; at < end; at++) this.drop(at, low, high);
  }

  /**
   * A flush begins: fills of transactions that are open now will be discarded. Before every invalidate…; unit lock held.
   * `did`: the domain that invalidateDomain will be called for, -1 if none.
   */
  beginFlush(did = -1): void {
    if (did >= 0 && did < COUNTED_DIDS) this.countBefore = Atomics.load(this.fills, did);
    Atomics.add(this.flushSequence, 0, 1);
  }

  /** Page-selective: every leaf that overlaps the range, whatever its size, and (IH = 0) the structures above it. */
  invalidatePages(did: number, frame: number, order: number): void {
    const last = frame + 2 ** order - 1;
    for (let i = 0; i < bank.context; i++) {
      const pages = 2 ** (SHIFTS[i] as number);
      this.dropPages(i, did, Math.floor(frame / pages), Math.floor(last / pages));
    }
  }

  /** Domain-selective; `beginFlush(did)` came before. */
  invalidateDomain(did: number): void {
    if (did < COUNTED_DIDS) {
      if (Atomics.load(this.fills, did) === this.visited[did]) return;
      this.visited[did] = this.countBefore;
    }
    for (let i = 0; i < bank.context; i++) this.dropPages(i, did, 0, DID_SCALE - 1);
  }

  invalidateContext(device: number): void {
    this.dropPages(bank.context, 0, device, device);
  }

  invalidateAll(): void {
    for (let at = 0; at < this.keys.length; at++) this.drop(at, 1, Number.MAX_SAFE_INTEGER);
  }

  /** Live leaf and structure entries, for invariants at a safepoint. */
  *cached(): Generator<CachedTranslation> {
    for (let i = 0; i < bank.context; i++) {
      const start = this.first[i] as number;
      const end = start + ((this.masks[i] as number) + 1) * (WAYS[i] as number);
      for (let at = start; at < end; at++) {
        const key = this.keys[at] as number;
        if (key === 0 || ((this.versions[at] as number) & 1) !== 0) continue;
        const did = Math.floor((key - 1) / DID_SCALE);
        const order = SHIFTS[i] as number;
        const frame = (key - 1 - did * DID_SCALE) * 2 ** order;
        yield { bank: i, did, frame, order, value: this.values[at] as number, extra: this.extras[at] as number };
      }
    }
  }
}
