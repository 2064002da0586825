// Memory runs short: a page of RAM goes to swap or back to its file. Write-back of dirty file pages is here as well; it takes
// away the right to write, so that the next write is seen.
import { errno } from '../../hypercall/errno.ts';
import { invalidating, rangeOf } from './invalidation.ts';
import { giveEntry, takeEntry } from './migration.ts';
import type { Mm } from './mm.ts';
import { pte, pteFrame, withFlags } from './page-table.ts';
import { storeFilePage } from './unmap.ts';

/** Swaps out or writes back and drops one page: 0; -ENOENT: it has no frame; -EAGAIN: others refer to it; -EINVAL. */
export function swapOut(mm: Mm, page: number): number {
  const kind = mm.vmas.find(page)?.kind;
  if (kind !== 'ram' && kind !== 'file') return -errno.EINVAL;
  return invalidating(mm, rangeOf(page, page + 1, 'clear'), () => {
    const entry = takeEntry(mm, page);
    if (entry < 0) return entry;
    const frame = pteFrame(entry);
    if (mm.frames.references(frame) > 1) {
      giveEntry(mm, page, entry);
      return -errno.EAGAIN;
    }
    if (kind === 'file') storeFilePage(mm, page, entry);
    else mm.pageTable.store(page, mm.frames.tag(frame));
    giveEntry(mm, page, 0);
    mm.frames.put(frame);
    return 0;
  });
}

/** Frees a frame of RAM, looking from the page after `page` on. False: there is none that can go. */
export function reclaim(mm: Mm, page: number): boolean {
  const { pages } = mm.pageTable;
  for (let i = 1; i < pages; i++) {
    const victim = (page + i) % pages;
    const entry = mm.pageTable.read(victim);
    if ((entry & pte.present) === 0 || mm.frames.poolOf(pteFrame(entry)) !== 'ram') continue;
    if (mm.frames.pins(pteFrame(entry)) === 0 && swapOut(mm, victim) === 0) return true;
  }
  return mm.frames.free('ram') > 0;
}

/** Writes the dirty pages of a file in [start, end) back (page_mkclean, then the I/O). Answers how many. */
export function writeBack(mm: Mm, start: number, end: number): number {
  let written = 0;
  for (let page = start; page < end; page++) {
    if (mm.vmas.find(page)?.kind !== 'file' || (mm.pageTable.read(page) & pte.dirty) === 0) continue;
    invalidating(mm, rangeOf(page, page + 1, 'protectionPage'), () => {
      mm.pageTableLock.lock();
      const entry = mm.pageTable.read(page);
      if ((entry & (pte.present | pte.dirty)) === (pte.present | pte.dirty)) {
        mm.pageTable.store(page, mm.frames.tag(pteFrame(entry)));
        mm.pageTable.write(page, withFlags(entry, 0, pte.write | pte.dirty));
        written++;
      }
      mm.pageTableLock.unlock();
      return 0;
    });
  }
  return written;
}
