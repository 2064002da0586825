// The shared memory of all grant tables: what a guest writes into its table, what Xen keeps of each entry in use (pins), and
// each domain's map-track. One part per domain slot, as 32-bit words, lazily committed. This file owns the layout; what the
// words mean is in shared-entry.ts, active-entry.ts and maptrack.ts.
import type { Domain } from '../domain/domain.ts';
import type { Mfn } from '../frames/addresses.ts';
import type { HostConfig } from '../host-config.ts';

export type Words = Int32Array<SharedArrayBuffer>;

/** Entries of a grant frame: 8 bytes each in version 1, 16 in version 2. */
export const ENTRIES_V1 = 512;
export const ENTRIES_V2 = 256;
/** Status words that one status frame holds. */
const STATUS_PER_FRAME = 2048;
/** Handles of one map-track frame. */
const HANDLES_PER_FRAME = 256;
const WORDS_PER_FRAME = 1024;
const DEFAULT_FRAMES = 64;
const DEFAULT_MAPTRACK = 1024;

/** Words of an active entry (active-entry.ts). */
export const ACTIVE_WORDS = 10;
/** Words of a map-track entry (maptrack.ts). */
export const TRACK_WORDS = 3;

/** Words at the head of a domain's part. */
export const grantWord = {
  /** 1 or 2. grantTable lock. */
  version: 0,
  frames: 1,
  statusFrames: 2,
  /** First handle that was never given out, and the head of the list of those given back. grantMaptrack lock. */
  nextHandle: 3,
  freeHandle: 4,
  /** (atomic) Map and unmap calls of the domain that are running: its death waits for them. */
  opsInFlight: 5,
  /** (atomic) Operations that hold on to a status word with no lock held (XSA-501). */
  v2InFlight: 6,
} as const;
const HEAD_WORDS = 8;

interface Sizes {
  readonly frames: number;
  readonly statusFrames: number;
  readonly handles: number;
  readonly words: number;
}

function sizesOf(config: HostConfig): Sizes {
  const frames = config.grantFrames ?? DEFAULT_FRAMES;
  const statusFrames = Math.ceil((frames * ENTRIES_V2) / STATUS_PER_FRAME);
  const handles = (config.maptrackFrames ?? DEFAULT_MAPTRACK) * HANDLES_PER_FRAME;
  const words =
    HEAD_WORDS +
    frames +
    statusFrames +
    frames * (WORDS_PER_FRAME + ENTRIES_V2 + ENTRIES_V1 * ACTIVE_WORDS) +
    handles * TRACK_WORDS;
  return { frames, statusFrames, handles, words: words + (words % 2) };
}

/** One domain's part, as one thread sees it. */
export class GrantTable {
  readonly head: Words;
  /** Frame that shows a part of the table to the guest, + 1; 0 = not there yet. */
  readonly frameList: Words;
  readonly statusList: Words;
  /** The table itself, as its guest writes it. */
  readonly shared: Words;
  /** Version 2: one word per entry, which Xen writes. */
  readonly status: Words;
  readonly active: Words;
  readonly track: Words;
  readonly maxFrames: number;
  readonly maxHandles: number;

  constructor(all: Words, slot: number, sizes: Sizes) {
    let at = slot * sizes.words;
    const take = (words: number): Words => {
      const part = all.subarray(at, at + words);
      at += words;
      return part;
    };
    this.maxFrames = sizes.frames;
    this.maxHandles = sizes.handles;
    this.head = take(HEAD_WORDS);
    this.frameList = take(sizes.frames);
    this.statusList = take(sizes.statusFrames);
    this.shared = take(sizes.frames * WORDS_PER_FRAME);
    this.status = take(sizes.frames * ENTRIES_V2);
    this.active = take(sizes.frames * ENTRIES_V1 * ACTIVE_WORDS);
    this.track = take(sizes.handles * TRACK_WORDS);
  }

  get version(): number {
    return this.head[grantWord.version] as number;
  }
  get frames(): number {
    return this.head[grantWord.frames] as number;
  }
  get statusFrames(): number {
    return this.head[grantWord.statusFrames] as number;
  }
  /** Entries that the table has now. */
  get entries(): number {
    return this.frames * (this.version === 2 ? ENTRIES_V2 : ENTRIES_V1);
  }
  /** Status frames that a table of so many frames needs. */
  statusFramesFor(frames: number): number {
    return Math.ceil((frames * ENTRIES_V2) / STATUS_PER_FRAME);
  }

  /** The frame that shows the status word of an entry; -1: version 1 has none. */
  statusPageOf(ref: number): Mfn | -1 {
    return ((this.statusList[Math.floor(ref / STATUS_PER_FRAME)] as number) - 1) as Mfn | -1; // as the table stores it
  }

  /** A new domain in this slot: whatever its predecessor used is clean again. */
  reset(): void {
    const used = this.frames;
    this.shared.fill(0, 0, used * WORDS_PER_FRAME);
    this.status.fill(0, 0, used * ENTRIES_V2);
    this.active.fill(0, 0, used * ENTRIES_V1 * ACTIVE_WORDS);
    this.track.fill(0, 0, (this.head[grantWord.nextHandle] as number) * TRACK_WORDS);
    this.frameList.fill(0);
    this.statusList.fill(0);
    this.head.fill(0);
    this.head[grantWord.version] = 1;
    // Handle 0 is nobody's.
    this.head[grantWord.nextHandle] = 1;
  }
}

export class GrantTables {
  static bytes(config: HostConfig): number {
    return config.maxDomains * sizesOf(config).words * 4;
  }

  private readonly all: Words;
  private readonly sizes: Sizes;
  private readonly tables: (GrantTable | undefined)[] = [];

  constructor(buffer: SharedArrayBuffer, config: HostConfig) {
    this.all = new Int32Array(buffer);
    this.sizes = sizesOf(config);
  }

  of(d: Domain): GrantTable {
    let table = this.tables[d.slot];
    if (!table) {
      table = new GrantTable(this.all, d.slot, this.sizes);
      this.tables[d.slot] = table;
    }
    return table;
  }
}
