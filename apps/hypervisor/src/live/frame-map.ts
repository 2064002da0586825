// The host's frames as a map of cells: whose most of a cell is, in what state, and how much of it is in use. It reads the frame
// table without a lock: a picture, stale at once. Hosts too large to be looked at frame by frame are sampled evenly.
import { frameFlag } from '#model/frames/frame-table';
import type { Host } from '#model/host';
import { type FrameState, frameStates, MAP_CELL_BYTES, MAP_CELLS_MAX } from '#wire/live';

const PAGE = 4096;
/** E820 type of RAM. */
const USABLE = 1;
/** Frames looked at for one map, about: some ten milliseconds. */
const SAMPLES_MAX = 2 ** 21;

const codes = Object.fromEntries(frameStates.map((name, code) => [name, code])) as Record<FrameState, number>; // all names

interface Span {
  readonly start: number;
  readonly end: number;
  readonly state: number;
}

/** What a frame that nobody uses is: free RAM, Xen's own, firmware's, or nothing. */
export class FrameGround {
  /** Disjoint, ascending, without gaps. */
  private readonly spans: readonly Span[];
  private last: Span;

  constructor({ config }: Pick<Host, 'config'>) {
    // The first that covers a frame counts: the heap's ranges lie inside usable ones, of which the rest is Xen's.
    const named: readonly Span[] = [
      ...config.heapRanges.map(({ start, end }) => ({ start, end, state: codes.free })),
      ...config.memoryMap.map(({ addr, size, type }) => ({
        start: Math.floor(addr / PAGE),
        end: Math.ceil((addr + size) / PAGE),
        state: type === USABLE ? codes.xen : codes.reserved,
      })),
    ];
    const edges = [...new Set([0, config.frames, ...named.flatMap(({ start, end }) => [start, end])])];
    edges.sort((a, b) => a - b);
    this.spans = edges.slice(0, -1).map((start, i) => ({
      start,
      end: edges[i + 1] as number, // an edge follows each but the last
      state: named.find((span) => span.start <= start && start < span.end)?.state ?? codes.outside,
    }));
    this.last = { start: 0, end: 0, state: codes.outside };
  }

  stateOf(m: number): number {
    if (m < this.last.start || m >= this.last.end) {
      this.last = this.spans.find(({ start, end }) => m >= start && m < end) ?? { start: m, end: m + 1, state: 0 };
    }
    return this.last.state;
  }
}

function stateOf(h: Host, ground: FrameGround, m: number): number {
  const { frames } = h;
  const flags = frames.flags[m] as number;
  if ((flags & frameFlag.firmware) !== 0) return codes.reserved;
  if ((flags & frameFlag.notRam) !== 0) return codes.mmio;
  const count = frames.count[m] as number;
  if ((flags & frameFlag.table) !== 0) return codes.table;
  if (count <= 0) return ground.stateOf(m);
  if ((flags & frameFlag.podCache) !== 0) return codes.podCache;
  if ((flags & frameFlag.special) !== 0) return codes.special;
  return count > 1 ? codes.shared : codes.ram;
}

const inUse = (state: number): boolean => state >= codes.ram && state <= codes.special;

/** Cells needed for the host at cells of 2^order frames, at most what one look carries. */
export const cellsFrom = (h: Host, first: number, order: number): number =>
  Math.min(MAP_CELLS_MAX, Math.max(0, Math.ceil((h.config.frames - first) / 2 ** order)));

/** MAP_CELL_BYTES for each cell. */
export function mapCells(h: Host, ground: FrameGround, first: number, order: number): Uint8Array {
  const cells = cellsFrom(h, first, order);
  const span = 2 ** order;
  const stride = Math.max(1, Math.ceil((cells * span) / SAMPLES_MAX));
  const out = new Uint8Array(cells * MAP_CELL_BYTES);
  for (let cell = 0; cell < cells; cell++) {
    const start = first + cell * span;
    oneCell(h, ground, start, Math.min(start + span, h.config.frames), stride, out, cell * MAP_CELL_BYTES);
  }
  return out;
}

/** Kinds of frames (owner and state) told apart within one cell. */
const KINDS = 8;
const kindKey = new Int32Array(KINDS);
const kindCount = new Int32Array(KINDS);

function oneCell(
  h: Host,
  ground: FrameGround,
  start: number,
  end: number,
  stride: number,
  out: Uint8Array,
  at: number,
): void {
  const { frames } = h;
  let kinds = 0;
  let used = 0;
  let seen = 0;
  for (let m = start; m < end; m += stride) {
    const state = stateOf(h, ground, m);
    const key = (frames.ownerOf(m as never) + 1) * 16 + state; // a plain number is a frame here
    let kind = 0;
    while (kind < kinds && kindKey[kind] !== key) kind++;
    if (kind === kinds) {
      if (kinds === KINDS) kind = KINDS - 1;
      else {
        kindKey[kinds] = key;
        kindCount[kinds++] = 0;
      }
    }
    kindCount[kind] = (kindCount[kind] as number) + 1;
    if (inUse(state)) used++;
    seen++;
  }
  let best = -1;
  let most = 0;
  // What is in use is shown before what is not: a few pages in a free range are what one looks for.
  for (let kind = 0; kind < kinds; kind++) {
    if (used > 0 && !inUse((kindKey[kind] as number) % 16)) continue;
    if ((kindCount[kind] as number) <= most) continue;
    most = kindCount[kind] as number;
    best = kindKey[kind] as number;
  }
  const owner = best < 0 ? 0 : Math.floor(best / 16);
  out[at] = owner & 0xff;
  out[at + 1] = owner >> 8;
  out[at + 2] = best < 0 ? 0 : best % 16;
  out[at + 3] = seen === 0 ? 0 : Math.ceil((used / seen) * 255);
}
