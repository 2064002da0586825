// get_user_pages and pin_user_pages: references to the frames of a range, taken after the pages have been faulted in. A pin keeps
// a page where it is, whatever its kernel would like; where that cannot be, it is refused.
import { errno } from '../../hypercall/errno.ts';
import { faultLocked } from './faults.ts';
import type { FrameIndex } from './frame-pools.ts';
import type { Mm } from './mm.ts';
import { pte, pteFrame, withFlags } from './page-table.ts';

export interface GupFlags {
  readonly write: boolean;
  /** FOLL_PIN: the device will access the data. */
  readonly pin: boolean;
  /** FOLL_LONGTERM: for as long as user space likes. */
  readonly longterm?: boolean;
}

export interface UserPages {
  readonly rc: number;
  readonly frames: readonly FrameIndex[];
}

/**
 * All `count` pages or none. -EFAULT: no such page or right; memory mapped by frame number (VRAM), which has no page to refer
 * to; or a long pin of a file that must learn of writes. -ENOMEM.
 */
export function getUserPages(mm: Mm, start: number, count: number, flags: GupFlags): UserPages {
  const frames: FrameIndex[] = [];
  mm.mmap.readLock();
  try {
    for (let page = start; page < start + count; page++) {
      const rc = getPage(mm, page, flags, frames);
      if (rc === 0) continue;
      for (const frame of frames) mm.frames.put(frame, flags.pin);
      return { rc, frames: [] };
    }
    return { rc: 0, frames };
  } finally {
    mm.mmap.readUnlock();
  }
}

function getPage(mm: Mm, page: number, { write, pin, longterm }: GupFlags, frames: FrameIndex[]): number {
  const kind = mm.vmas.find(page)?.kind;
  if (kind === 'vram' || (kind === 'file' && longterm && write)) return -errno.EFAULT;
  const needed = pte.present | (write ? pte.write : 0);
  for (;;) {
    const rc = faultLocked(mm, page, write);
    if (rc !== 0) return rc;
    mm.pageTableLock.lock();
    const entry = mm.pageTable.read(page);
    const there = (entry & needed) === needed;
    if (there) {
      mm.frames.get(pteFrame(entry), pin);
      frames.push(pteFrame(entry));
    }
    mm.pageTableLock.unlock();
    if (there) return 0;
  }
}

/** Lets the references go. Of a page that a device has written (`dirty`) the page table learns it, if it still has the page. */
export function putUserPages(mm: Mm, frames: readonly FrameIndex[], pinned: boolean, dirty: boolean): void {
  for (const frame of frames) {
    const page = mm.frames.pageOf(frame);
    if (dirty && page >= 0) {
      mm.pageTableLock.lock();
      const entry = mm.pageTable.read(page);
      if ((entry & pte.present) !== 0 && pteFrame(entry) === frame)
        mm.pageTable.write(page, withFlags(entry, pte.dirty));
      mm.pageTableLock.unlock();
    }
    mm.frames.put(frame, pinned);
  }
}
