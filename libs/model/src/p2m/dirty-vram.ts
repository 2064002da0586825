// Watching a guest's video memory (hap_track_dirty_vram): a device model learns which of its pages were written since it last
// asked, and redraws those. One range a domain, log-dirty by itself; unlike the global mode it lives beside devices, so what a
// device writes there is missed.
import type { Domain } from '../domain/domain.ts';
import { pauseDomain, unpauseDomain } from '../domain/pause.ts';
import type { Host } from '../host.ts';
import { p2mLock, p2mUnlock } from './p2m.ts';
import { changeTypeOne, changeTypeRange } from './type-change.ts';
import { p2mType } from './types.ts';

const WORD = 32;

/**
 * Watches [first, first + count), and says in `out` which pages are dirty, 32 a word: all of them when the range is new.
 * count 0 ends the watch. 0, or -EOVERFLOW from pausing the domain.
 */
export function trackDirtyVram(h: Host, d: Domain, first: number, count: number, out: number[]): number {
  const end = first + count;
  d.locks.paging.lock();
  const { vramBegin, vramEnd } = d.r;
  const same = count > 0 && vramBegin === first && vramEnd === end;
  if (!same) {
    d.r.vramBegin = count > 0 ? first : 0;
    d.r.vramEnd = count > 0 ? end : 0;
  }
  d.locks.paging.unlock();
  if (same) return readRange(h, d, first, count, out);
  if (vramEnd > vramBegin) changeTypeRange(h, d, vramBegin, vramEnd, p2mType.ramLogdirty, p2mType.ramRw);
  if (count === 0) return 0;
  changeTypeRange(h, d, first, end, p2mType.ramRw, p2mType.ramLogdirty);
  for (let i = 0; i < count; i += WORD) out.push(i + WORD <= count ? 2 ** WORD - 1 : 2 ** (count - i) - 1);
  return 0;
}

/** paging_log_dirty_range: a page that is ram_rw was written; it is protected again. */
function readRange(h: Host, d: Domain, first: number, count: number, out: number[]): number {
  const rc = pauseDomain(h, d);
  if (rc !== 0) return rc;
  p2mLock(h, d);
  for (let i = 0; i < count; i += WORD) {
    let word = 0;
    for (let bit = 0; bit < WORD && i + bit < count; bit++) {
      if (changeTypeOne(h, d, first + i + bit, p2mType.ramRw, p2mType.ramLogdirty) === 0) word += 2 ** bit;
    }
    out.push(word);
  }
  p2mUnlock(h, d);
  unpauseDomain(d);
  return 0;
}
