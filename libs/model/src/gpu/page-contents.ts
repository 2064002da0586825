// What stands in guest pages that are GPU tables. A frame's contents are one tag elsewhere; such a page has 512 entries in a side
// arena, and the frame's tag says so. Whoever changes the tag (a plain store, a scrub, another owner) has made the page
// something else, and its entries are gone. This file knows no guest and no table format.
import type { Mfn } from '../frames/addresses.ts';
import type { FrameTable } from '../frames/frame-table.ts';
import { load, store } from '../shared-memory/slots.ts';
import { step, stepKind } from '../shared-memory/step.ts';
import { ENTRIES } from './pte.ts';

/** "GT" and the page's number. */
const TAG = 0x4754_0000;

export class PageContents {
  static bytes(pages: number, frames: number): number {
    return pages === 0 ? 0 : pages * (ENTRIES * 8 + 8) + frames * 4;
  }

  private readonly entries: Float64Array<SharedArrayBuffer>;
  /** By page: the frame it was given to + 1 (atomic). */
  private readonly owners: Int32Array<SharedArrayBuffer>;
  /** By frame: its page + 1. */
  private readonly pageOf: Int32Array<SharedArrayBuffer>;
  private readonly frames: FrameTable;

  constructor(buffer: SharedArrayBuffer, at: number, pages: number, frames: FrameTable, frameCount: number) {
    this.frames = frames;
    this.entries = new Float64Array(buffer, at, pages * ENTRIES);
    this.owners = new Int32Array(buffer, at + pages * ENTRIES * 8, pages);
    this.pageOf = new Int32Array(buffer, at + pages * (ENTRIES * 8 + 8), pages === 0 ? 0 : frameCount);
  }

  private page(m: Mfn): number {
    const page = (this.pageOf[m] ?? 0) - 1;
    return page >= 0 && Atomics.load(this.frames.tag, m) === TAG + page ? page : -1;
  }

  /** One entry; 0 in a page that is no table. */
  read(m: Mfn, index: number): number {
    step(stepKind.read, m);
    const page = this.page(m);
    return page < 0 ? 0 : load(this.entries, page * ENTRIES + index);
  }

  /** The page becomes a table with all other entries absent, if it was none. False: the arena is full. */
  write(m: Mfn, index: number, value: number): boolean {
    step(stepKind.write, m);
    let page = this.page(m);
    if (page < 0) page = this.take(m);
    if (page < 0) return false;
    store(this.entries, page * ENTRIES + index, value);
    return true;
  }

  /** A page of the arena that nobody has, or whose frame is a table no longer. */
  private take(m: Mfn): number {
    for (let page = 0; page < this.owners.length; page++) {
      const owner = Atomics.load(this.owners, page);
      if (
        owner !== 0 &&
        Atomics.load(this.frames.tag, owner - 1) === TAG + page &&
        this.pageOf[owner - 1] === page + 1
      ) {
        continue;
      }
      if (Atomics.compareExchange(this.owners, page, owner, m + 1) !== owner) continue;
      this.entries.fill(0, page * ENTRIES, (page + 1) * ENTRIES);
      this.pageOf[m] = page + 1;
      Atomics.store(this.frames.tag, m, TAG + page);
      return page;
    }
    return -1;
  }
}
