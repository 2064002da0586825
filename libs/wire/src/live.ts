// What a running host shows to those who look, and how it travels: a look is a JSON head and a block of bytes, so that maps and
// strips of thousands of cells need no text. Used by the hypervisor, the dashboard and the page in the browser alike, so it
// imports nothing at run time. Numbers of frames are gfns, mfns or dfns by the field's name; times are µs of the host's clock.

/** Cells of one look at the host's frames, and columns of one look at a domain's gfns. */
export const MAP_CELLS_MAX = 16_384;
export const STRIP_COLUMNS = 1024;
/** Bytes of a cell of the map: owner (domid + 1, low and high byte), state, how much of it is in use (0…255). */
export const MAP_CELL_BYTES = 4;
/** Bytes of a column of the strips, see `stripByte`. */
export const STRIP_COLUMN_BYTES = 10;
/** Bytes of a column of a CPU's lane, see `laneByte`. */
export const LANE_COLUMN_BYTES = 5;
/** A column of the lanes is so long. */
export const LANE_COLUMN_US = 1000;

/** Values of a map cell's state. */
export const frameStates = [
  'outside',
  'free',
  'xen',
  'ram',
  'podCache',
  'table',
  'shared',
  'special',
  'mmio',
  'reserved',
] as const;
export type FrameState = (typeof frameStates)[number];

/** Places of a strip column's bytes. Types are p2m type + 1; fills and counts saturate at 255. */
export const stripByte = {
  p2mType: 0,
  /** Largest order of a leaf in the column; 255: none. */
  p2mOrder: 1,
  p2mFill: 2,
  /** Rights of the I/O entries, read 1 and write 2; 0: none. */
  ioRights: 3,
  ioOrder: 4,
  ioFill: 5,
  /** Pages where p2m and IOMMU disagree. */
  disagree: 6,
  /** Pages of guest RAM without a frame: a device's access would fault. */
  frameless: 7,
  /** Of what the column holds, the share that is 4K leaves. */
  p2mSlivers: 8,
  ioSlivers: 9,
} as const;

/** Places of a lane column's bytes: shares of the column's time (0…255) and the lock they were spent on (place in `locks` + 1). */
export const laneByte = { run: 0, hold: 1, wait: 2, heldLock: 3, waitedLock: 4 } as const;

/** What somebody wants to see. Several browsers share a want that is the same. */
export type LiveWant =
  /** Cells of 2^order frames from `first` on. */
  | { readonly kind: 'map'; readonly first: number; readonly order: number }
  /** p2m and IOMMU of a domain over gfns from…to (exclusive). `to` 0: all that is mapped. */
  | { readonly kind: 'strip'; readonly domid: number; readonly from: number; readonly to: number }
  | { readonly kind: 'lanes' };

export function wantKey(want: LiveWant): string {
  if (want.kind === 'map') return `map:${want.first}:${want.order}`;
  if (want.kind === 'strip') return `strip:${want.domid}:${want.from}:${want.to}`;
  return 'lanes';
}

export interface LiveDomain {
  readonly domid: number;
  readonly incarnation: number;
  readonly name: string;
  /** As `xl list` shows them. */
  readonly state: string;
  readonly vcpus: number;
  readonly cpuTimeUs: number;
  readonly totPages: number;
  readonly maxPages: number;
  readonly outstandingPages: number;
  readonly podEntries: number;
  readonly podCache: number;
  /** Pages of its p2m pool, and of its own I/O tables. */
  readonly poolPages: number;
  readonly ioTablePages: number;
  /** Of what its devices walk: nothing, tables of their own, or the CPU's. */
  readonly iommu: 'off' | 'separate' | 'shared';
  readonly devices: readonly number[];
  /** Multicalls since the start, and the time from their arrival to their answer since the last look, µs. */
  readonly jobs: number;
  readonly calls: number;
  readonly serviceUs: { readonly n: number; readonly p50: number; readonly p99: number };
}

export interface LiveDevice {
  readonly sbdf: number;
  /** -1: unknown or quarantined. */
  readonly owner: number;
  readonly jobs: number;
  readonly completed: number;
  readonly faults: number;
  readonly busyUs: number;
}

export interface LiveLock {
  readonly name: string;
  readonly scope: number;
  readonly lockCnt: number;
  readonly blockCnt: number;
  readonly holdNs: number;
  readonly waitNs: number;
  readonly inXen: boolean;
}

/** Of a lock since lanes are watched, µs. */
export interface LockTimes {
  readonly lock: string;
  readonly holds: { readonly n: number; readonly p50: number; readonly p99: number; readonly max: number };
  readonly waits: { readonly n: number; readonly p50: number; readonly p99: number; readonly max: number };
}

/** One wait for a lock: who waited, who held it and in which call. */
export interface LockWait {
  readonly tsUs: number;
  readonly us: number;
  readonly lock: string;
  readonly cpu: number;
  readonly call: string;
  readonly domid: number;
  readonly holderCpu: number;
  readonly holderCall: string;
  readonly holderDomid: number;
}

/** The whole host in figures, four times a second while somebody looks. */
export interface LivePulse {
  readonly kind: 'pulse';
  readonly tsUs: number;
  readonly freePages: number;
  readonly counters: Readonly<Record<string, number>>;
  readonly wire: Readonly<Record<string, number>>;
  readonly violations: Readonly<Record<string, number>>;
  readonly domains: readonly LiveDomain[];
  readonly devices: readonly LiveDevice[];
  readonly locks: readonly LiveLock[];
  /** Share of the last quarter second that each pCPU worked. */
  readonly pcpuUs: readonly number[];
}

export interface LiveMap {
  readonly kind: 'map';
  readonly key: string;
  readonly first: number;
  readonly order: number;
  readonly cells: number;
  readonly frames: number;
}

export interface LiveStrip {
  readonly kind: 'strip';
  readonly key: string;
  readonly domid: number;
  readonly incarnation: number;
  readonly from: number;
  readonly to: number;
  readonly shared: boolean;
  readonly iommu: boolean;
  /** Leaves in sight by order 0, 9, 18, and pages of PoD. */
  readonly leaves: readonly [number, number, number];
  readonly ioLeaves: readonly [number, number, number];
  readonly podPages: number;
  readonly disagreeing: number;
  /** First gfns where the tables disagree. */
  readonly examples: readonly number[];
  /** What the toolstack told firmware, in bytes. */
  readonly memoryMap: readonly { readonly addr: number; readonly size: number; readonly type: number }[];
  /** Windows of devices in the p2m, in frames. */
  readonly mmio: readonly { readonly start: number; readonly end: number; readonly mfn: number }[];
  /** How long the host stood still for this look. */
  readonly ms: number;
}

export interface LiveLanes {
  readonly kind: 'lanes';
  readonly key: 'lanes';
  readonly fromUs: number;
  readonly columns: number;
  readonly cpus: readonly string[];
  readonly locks: readonly string[];
  readonly times: readonly LockTimes[];
  readonly waits: readonly LockWait[];
  /** Events that came faster than they were read. */
  readonly missed: number;
}

/** What stands beside the hypervisor's own figures: queues, processes, guests' targets. Once a second. */
export interface LiveSlow {
  readonly kind: 'slow';
  readonly queues: readonly {
    readonly name: string;
    readonly waiting: number;
    readonly active: number;
    readonly failed: number;
  }[];
  readonly processes: readonly {
    readonly name: string;
    readonly pid: number;
    readonly startedAtMs: number;
    readonly starts: number;
    /** null: it runs. */
    readonly ended: string | null;
  }[];
  /** Domains with a kernel: its target, and the time since its last sign of life (-1: none seen). */
  readonly guests: readonly { readonly domid: number; readonly targetKb: number; readonly heartbeatMs: number }[];
  readonly redisPingMs: number;
}

export type LiveHead = LivePulse | LiveMap | LiveStrip | LiveLanes | LiveSlow;
export interface LiveLook {
  readonly head: LiveHead;
  readonly bytes: Uint8Array;
}

const LENGTH_BYTES = 4;
const NOTHING = new Uint8Array(0);

/** Length of the head, head as JSON, bytes. */
export function encodeLook(head: LiveHead, bytes: Uint8Array = NOTHING): Uint8Array {
  const text = new TextEncoder().encode(JSON.stringify(head));
  const out = new Uint8Array(LENGTH_BYTES + text.length + bytes.length);
  new DataView(out.buffer).setUint32(0, text.length, true);
  out.set(text, LENGTH_BYTES);
  out.set(bytes, LENGTH_BYTES + text.length);
  return out;
}

/** Throws a RangeError or SyntaxError on what `encodeLook` did not make. */
export function decodeLook(record: Uint8Array): LiveLook {
  const length = new DataView(record.buffer, record.byteOffset, record.byteLength).getUint32(0, true);
  const end = LENGTH_BYTES + length;
  if (end > record.length) throw new RangeError('a look is cut off');
  const text = new TextDecoder().decode(record.subarray(LENGTH_BYTES, end));
  return { head: JSON.parse(text) as LiveHead, bytes: record.subarray(end) };
}

/** Several looks as one message: each behind its length. */
export function packLooks(looks: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(looks.reduce((sum, look) => sum + LENGTH_BYTES + look.length, 0));
  const view = new DataView(out.buffer);
  let at = 0;
  for (const look of looks) {
    view.setUint32(at, look.length, true);
    out.set(look, at + LENGTH_BYTES);
    at += LENGTH_BYTES + look.length;
  }
  return out;
}

export function unpackLooks(message: Uint8Array): LiveLook[] {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const looks: LiveLook[] = [];
  for (let at = 0; at + LENGTH_BYTES <= message.length; ) {
    const length = view.getUint32(at, true);
    at += LENGTH_BYTES;
    looks.push(decodeLook(message.subarray(at, at + length)));
    at += length;
  }
  return looks;
}
