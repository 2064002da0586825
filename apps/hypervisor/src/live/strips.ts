// A domain's gfn space as columns: what the p2m holds above, what its devices' tables hold below, and where the two disagree.
// For a safepoint: between a p2m change and its I/O change every domain disagrees for a moment.
import type { Domain } from '#model/domain/domain';
import { INVALID_MFN } from '#model/frames/addresses';
import type { Host } from '#model/host';
import {
  levelOrder,
  ROOT_LEVEL,
  SLOT_R,
  SLOT_SP,
  SLOT_W,
  slotAccess,
  slotFrame,
  slotLow,
  slotType,
} from '#model/p2m/entry';
import { iommuRightsOf, p2mType } from '#model/p2m/types';
import { load } from '#model/shared-memory/slots';
import { STRIP_COLUMN_BYTES, STRIP_COLUMNS, stripByte } from '#wire/live';

const SLOTS = 512;
const EXAMPLES = 8;
const MMIO_MAX = 64;
const DEVICE_RIGHTS = SLOT_R | SLOT_W;
const FULL = 255;

export interface Strips {
  readonly from: number;
  readonly to: number;
  readonly bytes: Uint8Array;
  readonly leaves: [number, number, number];
  readonly ioLeaves: [number, number, number];
  readonly podPages: number;
  readonly disagreeing: number;
  readonly examples: readonly number[];
  readonly mmio: readonly { start: number; end: number; mfn: number }[];
}

/** One end of a comparison: the leaf of a table that covers a frame, kept from one frame to the next. */
class IoCursor {
  start = 0;
  end = 0;
  /** 0: nothing is mapped in start…end. */
  slot = 0;
  private readonly h: Host;
  private readonly root: number;

  constructor(h: Host, root: number) {
    this.h = h;
    this.root = root;
  }

  seek(frame: number): void {
    if (frame >= this.start && frame < this.end) return;
    let table = this.root;
    for (let level = ROOT_LEVEL; ; level--) {
      const span = 2 ** levelOrder(level);
      const slot = load(this.h.tables.slots, table * SLOTS + (Math.floor(frame / span) % SLOTS));
      if (level > 0 && (slot & DEVICE_RIGHTS) !== 0 && (slot & SLOT_SP) === 0) {
        table = slotFrame(slot);
        continue;
      }
      this.start = frame - (frame % span);
      this.end = this.start + span;
      this.slot = (slot & DEVICE_RIGHTS) === 0 ? 0 : slot;
      return;
    }
  }

  get rights(): number {
    return this.slot & DEVICE_RIGHTS;
  }

  mfnAt(frame: number): number {
    return slotFrame(this.slot) + frame - this.start;
  }
}

/** Pages of a column, by what they are. */
class Columns {
  readonly pages: number;
  readonly types = new Int32Array(STRIP_COLUMNS * 32);
  /** Largest order + 1; 0: no leaf. */
  readonly orders = new Uint8Array(STRIP_COLUMNS);
  readonly ioOrders = new Uint8Array(STRIP_COLUMNS);
  readonly slivers = new Int32Array(STRIP_COLUMNS);
  readonly ioSlivers = new Int32Array(STRIP_COLUMNS);
  readonly io = new Int32Array(STRIP_COLUMNS * 4);
  readonly disagree = new Int32Array(STRIP_COLUMNS);
  readonly frameless = new Int32Array(STRIP_COLUMNS);
  private readonly from: number;
  private readonly to: number;

  constructor(from: number, to: number) {
    this.from = from;
    this.to = to;
    this.pages = Math.max(1, (to - from) / STRIP_COLUMNS);
  }

  /** Calls `add` for each column that start…end touches, with the pages of it there. */
  each(start: number, end: number, add: (column: number, pages: number) => void): void {
    const first = Math.max(start, this.from);
    const last = Math.min(end, this.to);
    if (first >= last) return;
    const from = Math.floor((first - this.from) / this.pages);
    const to = Math.min(STRIP_COLUMNS - 1, Math.floor((last - 1 - this.from) / this.pages));
    for (let column = from; column <= to; column++) {
      const begin = this.from + column * this.pages;
      const pages = Math.min(last, begin + this.pages) - Math.max(first, begin);
      if (pages > 0) add(column, pages);
    }
  }

  bytes(): Uint8Array {
    const out = new Uint8Array(STRIP_COLUMNS * STRIP_COLUMN_BYTES);
    const part = (pages: number, of: number): number => Math.min(FULL, Math.ceil((pages / of) * FULL));
    const share = (pages: number): number => (pages <= 0 ? 0 : Math.min(FULL, Math.ceil((pages / this.pages) * FULL)));
    for (let column = 0; column < STRIP_COLUMNS; column++) {
      const at = column * STRIP_COLUMN_BYTES;
      const { best, sum } = largest(this.types.subarray(column * 32, column * 32 + 32));
      const io = largest(this.io.subarray(column * 4, column * 4 + 4));
      out[at + stripByte.p2mType] = sum === 0 ? 0 : best + 1;
      out[at + stripByte.p2mOrder] = ((this.orders[column] as number) + FULL) % 256;
      out[at + stripByte.p2mFill] = share(sum);
      out[at + stripByte.ioRights] = io.sum === 0 ? 0 : io.best;
      out[at + stripByte.ioOrder] = ((this.ioOrders[column] as number) + FULL) % 256;
      out[at + stripByte.ioFill] = share(io.sum);
      out[at + stripByte.disagree] = Math.min(FULL, Math.ceil(this.disagree[column] as number));
      out[at + stripByte.p2mSlivers] = sum === 0 ? 0 : part(this.slivers[column] as number, sum);
      out[at + stripByte.ioSlivers] = io.sum === 0 ? 0 : part(this.ioSlivers[column] as number, io.sum);
      out[at + stripByte.frameless] = Math.min(FULL, Math.ceil(this.frameless[column] as number));
    }
    return out;
  }
}

function largest(counts: Int32Array): { best: number; sum: number } {
  let best = 0;
  let sum = 0;
  for (let i = 0; i < counts.length; i++) {
    sum += counts[i] as number;
    if ((counts[i] as number) > (counts[best] as number)) best = i;
  }
  return { best, sum };
}

/** `to` 0: up to the last gfn that was ever mapped. The host stands still. */
export function stripsOf(h: Host, d: Domain, wantedFrom: number, wantedTo: number): Strips {
  const top = d.r.maxMappedPfn + 1;
  const to = wantedTo > 0 ? wantedTo : Math.max(STRIP_COLUMNS, Math.ceil(top * 1.01));
  const from = Math.min(wantedFrom, to - 1);
  const columns = new Columns(from, to);
  const found = { leaves: [0, 0, 0], ioLeaves: [0, 0, 0], pod: 0, disagreeing: 0 };
  const examples: number[] = [];
  const mmio: { start: number; end: number; mfn: number }[] = [];
  const separate = d.has('needSync') && d.r.iommuRoot !== 0;
  const shared = d.has('hapPtShare');
  const io = separate ? new IoCursor(h, d.r.iommuRoot) : null;

  const differ = (start: number, pages: number): void => {
    found.disagreeing += pages;
    if (examples.length < EXAMPLES) examples.push(start);
    columns.each(start, start + pages, (column, n) => {
      columns.disagree[column] = (columns.disagree[column] as number) + n;
    });
  };

  /** Where the devices' tables do not say what the p2m entry asks for. */
  const compare = (gfn: number, end: number, mfn: number, rights: number): void => {
    if (!io) return;
    for (let at = gfn; at < end; at = io.end) {
      io.seek(at);
      const same = io.rights === rights && (rights === 0 || io.mfnAt(at) === mfn + at - gfn);
      if (!same) differ(at, Math.min(end, io.end) - at);
    }
  };

  const p2mLeaf = (gfn: number, level: number, slot: number): void => {
    const low = slotLow(slot);
    const type = slotType(low);
    const order = levelOrder(level);
    const end = gfn + 2 ** order;
    const mfn = slotFrame(slot);
    const leaves = found.leaves;
    leaves[level] = (leaves[level] ?? 0) + 1;
    const pod = type === p2mType.populateOnDemand;
    if (pod) found.pod += end - gfn;
    columns.each(gfn, end, (column, pages) => {
      const at = column * 32 + type;
      columns.types[at] = (columns.types[at] as number) + pages;
      if (order >= (columns.orders[column] as number)) columns.orders[column] = order + 1;
      if (order === 0) columns.slivers[column] = (columns.slivers[column] as number) + pages;
      if (pod) columns.frameless[column] = (columns.frameless[column] as number) + pages;
    });
    if (type === p2mType.mmioDirect) noteMmio(mmio, gfn, end, mfn);
    const framed = !pod && mfn !== INVALID_MFN;
    compare(gfn, end, mfn, framed ? iommuRightsOf(type, slotAccess(low)) : 0);
  };

  const ioLeaf = (dfn: number, level: number, slot: number): void => {
    if ((slot & DEVICE_RIGHTS) === 0) return;
    const order = levelOrder(level);
    const leaves = found.ioLeaves;
    leaves[level] = (leaves[level] ?? 0) + 1;
    columns.each(dfn, dfn + 2 ** order, (column, pages) => {
      const at = column * 4 + (slot & DEVICE_RIGHTS);
      columns.io[at] = (columns.io[at] as number) + pages;
      if (order >= (columns.ioOrders[column] as number)) columns.ioOrders[column] = order + 1;
      if (order === 0) columns.ioSlivers[column] = (columns.ioSlivers[column] as number) + pages;
    });
    if (shared || !d.isTranslated) return;
    for (const hole of holesUnder(h, d, dfn, dfn + 2 ** order)) differ(hole.start, hole.pages);
  };

  if (d.r.p2mRoot !== 0) eachLeaf(h, d.r.p2mRoot, from, to, p2mLeaf);
  const ioRoot = shared ? d.r.p2mRoot : d.r.iommuRoot;
  if (d.has('iommu') && ioRoot !== 0) {
    eachLeaf(h, ioRoot, from, to, shared ? (gfn, level, slot) => ioLeaf(gfn, level, onlyRam(slot)) : ioLeaf);
  }
  return {
    from,
    to,
    bytes: columns.bytes(),
    leaves: [found.leaves[0] ?? 0, found.leaves[1] ?? 0, found.leaves[2] ?? 0],
    ioLeaves: [found.ioLeaves[0] ?? 0, found.ioLeaves[1] ?? 0, found.ioLeaves[2] ?? 0],
    podPages: found.pod,
    disagreeing: found.disagreeing,
    examples: examples.sort((a, b) => a - b),
    mmio,
  };
}

/** A PoD entry of shared tables has no rights; whatever else has some is what a device finds. */
const onlyRam = (slot: number): number => (slotType(slotLow(slot)) === p2mType.populateOnDemand ? 0 : slot);

function noteMmio(mmio: { start: number; end: number; mfn: number }[], start: number, end: number, mfn: number): void {
  const last = mmio.at(-1);
  if (last && last.end === start && last.mfn + last.end - last.start === mfn) last.end = end;
  else if (mmio.length < MMIO_MAX) mmio.push({ start, end, mfn });
}

/** Parts of an I/O leaf for which the p2m holds nothing at all; what it holds otherwise was compared from its side. */
function holesUnder(h: Host, d: Domain, start: number, end: number): { start: number; pages: number }[] {
  const holes: { start: number; pages: number }[] = [];
  const { slots } = h.tables;
  for (let at = start; at < end; ) {
    let table: number = d.r.p2mRoot;
    let level = ROOT_LEVEL;
    let slot = 0;
    for (; ; level--) {
      slot = load(slots, table * SLOTS + (Math.floor(at / 2 ** levelOrder(level)) % SLOTS));
      if (level === 0 || slot === 0 || (slotLow(slot) & SLOT_SP) !== 0) break;
      table = slotFrame(slot);
    }
    const span = 2 ** levelOrder(level);
    const next = Math.min(end, at - (at % span) + span);
    if (slot === 0) holes.push({ start: at, pages: next - at });
    at = next;
  }
  return holes;
}

/** Every leaf of a table between two frames, in order. Tight: a shattered guest has a million of them. */
function eachLeaf(
  h: Host,
  root: number,
  from: number,
  to: number,
  visit: (frame: number, level: number, slot: number) => void,
): void {
  const { slots } = h.tables;
  const below = (table: number, level: number, base: number): void => {
    const span = 2 ** levelOrder(level);
    const first = Math.max(0, Math.floor((from - base) / span));
    const last = Math.min(SLOTS, Math.ceil((to - base) / span));
    for (let i = first; i < last; i++) {
      const slot = load(slots, table * SLOTS + i);
      if (slot === 0) continue;
      if (level === 0 || (slotLow(slot) & SLOT_SP) !== 0) visit(base + i * span, level, slot);
      else if ((slot & 7) !== 0) below(slotFrame(slot), level - 1, base + i * span);
    }
  };
  below(root, ROOT_LEVEL, 0);
}
