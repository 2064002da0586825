// The memory of a paper host: what step programs (step-program.ts) change, as words that all actors share. Small and of one size,
// since it is set back before every schedule. It knows where each thing lies and what to call it, and no rule.
//
//   version · texts · locks · words · frames · tables · device entries · IOTLB · TLBs · devices

export const size = {
  locks: 12,
  words: 32,
  frames: 32,
  domains: 8,
  /** `p2m(d)` and `io(d)` of every domain, and so many that a program names. */
  namedTables: 8,
  entries: 16,
  devices: 4,
  iotlb: 16,
  vcpus: 4,
  tlb: 8,
} as const;

const tables = 2 * size.domains + size.namedTables;

/** Words of a lock; `state`: 0 free, n readers, -1 a writer; `readers`: a bit for each actor that reads. */
export const lockField = { state: 0, owner: 1, depth: 2, writersWaiting: 3, readers: 4, of: 5 } as const;
export const frameField = {
  owner: 0,
  refs: 1,
  type: 2,
  typeCount: 3,
  tag: 4,
  memoryTag: 5,
  cacheOf: 6,
  lentTo: 7,
  of: 8,
} as const;
/** Of an entry; `table`: 1 + the table it points to; `rights`: 1 read, 2 write. */
export const entryField = { present: 0, frame: 1, rights: 2, type: 3, hw: 4, table: 5, of: 6 } as const;
/** Entries as they were once stored whole, so many of each. */
const WHOLES = 8;
const entryWords = 2 * entryField.of + 1 + WHOLES;
export const deviceEntryField = { present: 0, domain: 1, table: 2, did: 3, of: 4 } as const;
/** `absent`: that there is nothing was cached. */
export const iotlbField = { valid: 0, did: 1, dfn: 2, frame: 3, rights: 4, absent: 5, of: 6 } as const;
export const tlbField = { valid: 0, domain: 1, gfn: 2, frame: 3, rights: 4, of: 5 } as const;
export const deviceField = { owner: 0, program: 1, of: 2 } as const;

const at = (() => {
  let next = 1;
  const take = (words: number): number => {
    const start = next;
    next += words;
    return start;
  };
  return {
    version: 0,
    locks: take(size.locks * lockField.of),
    words: take(size.words),
    frames: take(size.frames * frameField.of),
    m2p: take(size.frames),
    tableLive: take(tables),
    entries: take(tables * size.entries * entryWords),
    deviceEntries: take(size.devices * deviceEntryField.of),
    /** As a unit has cached them: 1 + those fields. */
    cachedDeviceEntries: take(size.devices * (deviceEntryField.of + 1)),
    iotlb: take(size.iotlb * iotlbField.of),
    tlbs: take(size.vcpus * size.tlb * tlbField.of),
    devices: take(size.devices * deviceField.of),
    end: next,
  };
})();

/** Bytes for the words of steps; not set back between schedules. */
const TEXT_BYTES = 1 << 16;

const named = (fields: Readonly<Record<string, number>>): string[] =>
  Object.entries(fields)
    .filter(([name]) => name !== 'of')
    .toSorted(([, a], [, b]) => a - b)
    .map(([name]) => name);
const names = {
  lock: named(lockField),
  frame: named(frameField),
  entry: named(entryField),
  deviceEntry: named(deviceEntryField),
  iotlb: named(iotlbField),
  tlb: named(tlbField),
  device: named(deviceField),
};

export class PaperMemory {
  static create(): SharedArrayBuffer {
    return new SharedArrayBuffer(at.end * 4 + 4 + TEXT_BYTES);
  }

  readonly words: Int32Array<SharedArrayBuffer>;
  readonly texts: Uint8Array<SharedArrayBuffer>;
  readonly textBytes: Int32Array<SharedArrayBuffer>;
  readonly lockNames: readonly string[];
  readonly wordNames: readonly string[];
  readonly tableNames: readonly string[];

  constructor(
    buffer: SharedArrayBuffer,
    lockNames: readonly string[],
    wordNames: readonly string[],
    named: readonly string[],
  ) {
    this.words = new Int32Array(buffer, 0, at.end);
    this.textBytes = new Int32Array(buffer, at.end * 4, 1);
    this.texts = new Uint8Array(buffer, at.end * 4 + 4, TEXT_BYTES);
    this.lockNames = lockNames;
    this.wordNames = wordNames;
    const domains = Array.from({ length: size.domains }, (_, d) => d);
    this.tableNames = [...domains.map((d) => `p2m(${d})`), ...domains.map((d) => `io(${d})`), ...named];
  }

  /** All but the locks. */
  get stateWords(): Int32Array<SharedArrayBuffer> {
    return this.words.subarray(at.words);
  }

  get(index: number): number {
    return this.words[index] as number;
  }

  /** Every change is one of the version too: whoever waits for something looks again. */
  set(index: number, value: number): void {
    if (this.words[index] === value) return;
    this.words[index] = value;
    this.words[at.version] = (this.words[at.version] as number) + 1;
  }

  readonly version = at.version;

  lock(lock: number): number {
    return at.locks + lock * lockField.of;
  }
  word(name: string): number {
    return at.words + this.indexOf(this.wordNames, name, 'word');
  }
  frame(f: number): number {
    return at.frames + this.checked(f, size.frames, 'frame') * frameField.of;
  }
  m2p(f: number): number {
    return at.m2p + this.checked(f, size.frames, 'frame');
  }
  table(name: string): number {
    return this.indexOf(this.tableNames, name, 'table');
  }
  tableLive(table: number): number {
    return at.tableLive + table;
  }
  /** The copy that CPUs see; the one that walkers see comes after it. */
  entry(table: number, index: number): number {
    return at.entries + (table * size.entries + this.checked(index, size.entries, 'entry')) * entryWords;
  }
  memoryEntry(table: number, index: number): number {
    return this.entry(table, index) + entryField.of;
  }
  deviceEntry(device: number): number {
    return at.deviceEntries + this.checked(device, size.devices, 'device') * deviceEntryField.of;
  }
  cachedDeviceEntry(device: number): number {
    return at.cachedDeviceEntries + this.checked(device, size.devices, 'device') * (deviceEntryField.of + 1);
  }
  iotlb(i: number): number {
    return at.iotlb + i * iotlbField.of;
  }
  tlb(vcpu: number, i: number): number {
    return at.tlbs + (this.checked(vcpu, size.vcpus, 'vCPU') * size.tlb + i) * tlbField.of;
  }
  device(device: number): number {
    return at.devices + this.checked(device, size.devices, 'device') * deviceField.of;
  }

  /** Was an entry ever stored as a whole with this value? */
  knownWhole(table: number, index: number, value: number): boolean {
    const base = this.entry(table, index) + 2 * entryField.of;
    for (let i = 0; i < Math.min(WHOLES, this.get(base)); i++) if (this.get(base + 1 + i) === value) return true;
    return false;
  }
  rememberWhole(table: number, index: number, value: number): void {
    if (this.knownWhole(table, index, value)) return;
    const base = this.entry(table, index) + 2 * entryField.of;
    const count = this.get(base);
    if (count >= WHOLES)
      throw new Error(`${this.tableNames[table]}[${index}] is stored with more than ${WHOLES} values`);
    this.words[base + 1 + count] = value;
    this.words[base] = count + 1;
  }

  /** What one word is called; null: it is nothing that a person is told of. */
  nameOf(index: number): string | null {
    const field = (start: number, of: number, list: readonly string[]): [number, string] => {
      const i = index - start;
      return [Math.floor(i / of), list[i % of] ?? `${i % of}`];
    };
    if (index >= at.devices) {
      const [device, name] = field(at.devices, deviceField.of, names.device);
      return `${name} of device ${device}`;
    }
    if (index >= at.tlbs) {
      const [i, name] = field(at.tlbs, tlbField.of, names.tlb);
      return `TLB of vCPU ${Math.floor(i / size.tlb)}, entry ${i % size.tlb}, ${name}`;
    }
    if (index >= at.iotlb) {
      const [i, name] = field(at.iotlb, iotlbField.of, names.iotlb);
      return `IOTLB entry ${i}, ${name}`;
    }
    if (index >= at.cachedDeviceEntries) return null;
    if (index >= at.deviceEntries) {
      const [device, name] = field(at.deviceEntries, deviceEntryField.of, names.deviceEntry);
      return `device entry ${device}, ${name}`;
    }
    if (index >= at.entries) {
      const i = (index - at.entries) % entryWords;
      const entry = Math.floor((index - at.entries) / entryWords);
      if (i >= 2 * entryField.of) return null;
      const copy = i >= entryField.of ? ' in memory' : '';
      const table = this.tableNames[Math.floor(entry / size.entries)] ?? '?';
      return `${table}[${entry % size.entries}]${copy}, ${names.entry[i % entryField.of]}`;
    }
    if (index >= at.tableLive) return `${this.tableNames[index - at.tableLive] ?? '?'} is a table`;
    if (index >= at.m2p) return `M2P of frame ${index - at.m2p}`;
    if (index >= at.frames) {
      const [f, name] = field(at.frames, frameField.of, names.frame);
      return `frame ${f}, ${name}`;
    }
    if (index >= at.words) return this.wordNames[index - at.words] ?? '?';
    return null;
  }

  private indexOf(list: readonly string[], name: string, what: string): number {
    const found = list.indexOf(name);
    if (found < 0) throw new Error(`the step program has no ${what} '${name}': it has ${list.join(', ')}`);
    return found;
  }

  private checked(n: number, end: number, what: string): number {
    if (!Number.isInteger(n) || n < 0 || n >= end)
      throw new Error(`there is no ${what} ${n}: they are 0 to ${end - 1}`);
    return n;
  }
}
