// Looking pages up for a secondary mapping without a reference: what is found holds only until the next invalidation, so the
// finder must be subscribed and must look whether to retry. HMM's way (hmm_range_fault), and KVM's, which also follows memory
// that is mapped by frame number.
import { errno } from '../../hypercall/errno.ts';
import { faultLocked } from './faults.ts';
import { type FrameIndex, NO_FRAME } from './frame-pools.ts';
import type { Mm } from './mm.ts';
import { hasFrame, pte, pteFrame } from './page-table.ts';
import type { Sequence } from './sequence.ts';

export interface FoundPage {
  readonly rc: number;
  readonly frame: FrameIndex;
  readonly writable: boolean;
}

const failed = (rc: number): FoundPage => ({ rc, frame: NO_FRAME, writable: false });

/** As hva_to_pfn, with fixup_user_fault where memory is mapped by frame number: faults the page in. -EFAULT, -ENOMEM. */
export function lookUpPage(mm: Mm, page: number, write: boolean): FoundPage {
  mm.mmap.readLock();
  try {
    return lookUpLocked(mm, page, write, false);
  } finally {
    mm.mmap.readUnlock();
  }
}

function lookUpLocked(mm: Mm, page: number, write: boolean, deviceOk: boolean): FoundPage {
  for (;;) {
    const rc = faultLocked(mm, page, write, deviceOk);
    if (rc !== 0) return failed(rc);
    mm.pageTableLock.lock();
    const entry = mm.pageTable.read(page);
    mm.pageTableLock.unlock();
    const there = deviceOk ? hasFrame(entry) : (entry & pte.present) !== 0;
    const writable = (entry & pte.write) !== 0;
    // A file page without the dirty mark must be asked for again before it is written.
    if (there && (!write || writable)) return { rc: 0, frame: pteFrame(entry), writable };
  }
}

export interface HmmRange {
  readonly sub: number;
  readonly sequence: Sequence;
  readonly start: number;
  readonly count: number;
  /** HMM_PFN_REQ_WRITE. Without it a page may still turn out writable. */
  readonly write: boolean;
  /** The asker owns the device: its device-private pages stay. */
  readonly ownDevice: boolean;
}

/** hmm_range_fault: 0 with all pages, -EBUSY: begin again, -EFAULT (also for memory mapped by frame number), -ENOMEM. */
export function hmmRangeFault(mm: Mm, range: HmmRange): { readonly rc: number; readonly pages: readonly FoundPage[] } {
  const pages: FoundPage[] = [];
  mm.mmap.readLock();
  try {
    for (let page = range.start; page < range.start + range.count; page++) {
      if (mm.notifiers.readRetry(range.sub, range.sequence)) return { rc: -errno.EBUSY, pages: [] };
      const kind = mm.vmas.find(page)?.kind;
      const found =
        kind === 'vram' || kind === 'grant'
          ? failed(-errno.EFAULT)
          : lookUpLocked(mm, page, range.write, range.ownDevice);
      if (found.rc !== 0) return { rc: found.rc, pages: [] };
      pages.push(found);
    }
    return { rc: 0, pages };
  } finally {
    mm.mmap.readUnlock();
  }
}
