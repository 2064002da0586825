// What Xen keeps of the bus frames that dom0 manages (PV-IOMMU): per bus frame the frame behind it, how often it was asked for,
// and how; and back from a frame to its bus frame (M2B). Shared memory and layout only; the rules are in pv-iommu.ts. All of it
// is under the pvIommu lock.
import type { HostConfig } from '../host-config.ts';
import { busBase, busCount } from './bus-space.ts';

/** Bits of a record's flags. */
export const bfnFlag = {
  /** Made by map_foreign_page, and gone with its last user. */
  foreign: 1,
  /** No page reference is held (MAP_OP no_ref_cnt). */
  noRef: 2,
} as const;

export interface BusRecord {
  readonly bfn: number;
  readonly mfn: number;
  /** map_foreign_page and lookup_foreign_page that were not undone. */
  readonly users: number;
  readonly flags: number;
}

export class PvIommuState {
  static bytes(config: HostConfig): number {
    const count = busCount(config);
    return count === 0 ? 0 : count * 16 + config.frames * 4;
  }

  readonly base: number;
  readonly count: number;
  /** mfn + 1; 0 = not mapped. */
  private readonly mfns: Float64Array<SharedArrayBuffer>;
  private readonly userWords: Int32Array<SharedArrayBuffer>;
  private readonly flagWords: Int32Array<SharedArrayBuffer>;
  /** By frame: index of its bus frame + 1. */
  private readonly m2b: Uint32Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer, config: HostConfig) {
    this.base = busBase(config);
    this.count = busCount(config);
    const n = this.count;
    this.mfns = new Float64Array(buffer, 0, n);
    this.userWords = new Int32Array(buffer, n * 8, n);
    this.flagWords = new Int32Array(buffer, n * 12, n);
    this.m2b = new Uint32Array(buffer, n * 16, n === 0 ? 0 : config.frames);
  }

  covers(bfn: number): boolean {
    return bfn >= this.base && bfn < this.base + this.count;
  }

  /** The record of a bus frame that `covers`; null: nothing is mapped there. */
  record(bfn: number): BusRecord | null {
    const i = bfn - this.base;
    const mfn = (this.mfns[i] as number) - 1;
    if (mfn < 0) return null;
    return { bfn, mfn, users: this.userWords[i] as number, flags: this.flagWords[i] as number };
  }

  set(bfn: number, mfn: number, users: number, flags: number): void {
    const i = bfn - this.base;
    this.mfns[i] = mfn + 1;
    this.userWords[i] = users;
    this.flagWords[i] = flags;
  }

  setUsers(bfn: number, users: number): void {
    this.userWords[bfn - this.base] = users;
  }

  /** Forgets the bus frame, and that the frame has it. */
  clear(bfn: number): void {
    const i = bfn - this.base;
    const mfn = (this.mfns[i] as number) - 1;
    if (mfn >= 0 && this.m2b[mfn] === i + 1) this.m2b[mfn] = 0;
    this.mfns[i] = 0;
    this.userWords[i] = 0;
    this.flagWords[i] = 0;
  }

  /** The bus frame of a frame, or -1. */
  busOf(mfn: number): number {
    const index = (this.m2b[mfn] ?? 0) - 1;
    return index < 0 ? -1 : this.base + index;
  }

  setBusOf(mfn: number, bfn: number): void {
    this.m2b[mfn] = bfn - this.base + 1;
  }

  /** All that is mapped. */
  *records(): Generator<BusRecord> {
    for (let i = 0; i < this.count; i++) {
      const record = this.record(this.base + i);
      if (record !== null) yield record;
    }
  }
}
