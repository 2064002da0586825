// A page becomes present: what a CPU's page fault does, and what get_user_pages, HMM and KVM do in its place. mmap_lock is held
// for reading throughout. Out of frames it reclaims, which invalidates: nobody may fault who is waited for by a callback.
import { errno } from '../../hypercall/errno.ts';
import { type FrameIndex, NO_FRAME } from './frame-pools.ts';
import { migratePage } from './migration.ts';
import type { Mm } from './mm.ts';
import { frameEntry, hasFrame, pte, pteFrame, withFlags } from './page-table.ts';
import { reclaim } from './reclaim.ts';
import type { Vma } from './vma.ts';

/** 0, -EFAULT (no such page, no right, past the end of the file), or -ENOMEM. */
export function handleFault(mm: Mm, page: number, write: boolean): number {
  mm.mmap.readLock();
  try {
    return faultLocked(mm, page, write);
  } finally {
    mm.mmap.readUnlock();
  }
}

/** `deviceOk`: a page in device-private memory is good as it is; its owner asks. mmap_lock is held. */
export function faultLocked(mm: Mm, page: number, write: boolean, deviceOk = false): number {
  for (;;) {
    mm.panicCell.check();
    mm.pageTableLock.lock();
    const vma = mm.vmas.find(page);
    if (!vma || (write && !vma.writable) || page >= vma.limit || vma.kind === 'grant') {
      const present = vma?.kind === 'grant' && hasFrame(mm.pageTable.read(page)) && (!write || vma.writable);
      mm.pageTableLock.unlock();
      return present ? 0 : -errno.EFAULT;
    }
    const entry = mm.pageTable.read(page);
    if ((entry & pte.migrating) !== 0) {
      mm.pageTableLock.unlock();
      mm.waitForMigration(page);
      continue;
    }
    if ((entry & pte.device) !== 0 && !deviceOk) {
      // As the driver's migrate_to_ram.
      mm.pageTableLock.unlock();
      const rc = migratePage(mm, page, 'ram');
      if (rc === -errno.ENOMEM) return rc;
      continue;
    }
    const done = hasFrame(entry) ? allow(mm, page, entry, write) : populate(mm, page, vma, write);
    mm.pageTableLock.unlock();
    if (done) return 0;
    if (!reclaim(mm, page)) return -errno.ENOMEM;
  }
}

/** A write to a present page: from here on it is dirty (of a file: its page_mkwrite). */
function allow(mm: Mm, page: number, entry: number, write: boolean): boolean {
  const wanted = write ? withFlags(entry, pte.write | pte.dirty) : entry;
  if (wanted !== entry) mm.pageTable.write(page, wanted);
  return true;
}

/** False: there is no frame. */
function populate(mm: Mm, page: number, vma: Vma, write: boolean): boolean {
  const frame = allocFor(mm, vma);
  if (frame === NO_FRAME) return false;
  mm.frames.setTag(frame, mm.pageTable.stored(page));
  mm.frames.show(frame, page);
  // A file page may be written only once the file system has been told.
  const writable = vma.writable && (vma.kind !== 'file' || write);
  const flags = pte.present | (writable ? pte.write : 0) | (write ? pte.dirty : 0);
  mm.pageTable.write(page, frameEntry(frame, flags));
  return true;
}

/** A buffer object goes to the GPU's memory while there is room. */
function allocFor(mm: Mm, vma: Vma): FrameIndex {
  if (vma.kind === 'vram') {
    const frame = mm.frames.alloc('vram');
    if (frame !== NO_FRAME) return frame;
  }
  return mm.frames.alloc('ram');
}

export interface CpuAccess {
  readonly rc: number;
  readonly tag: number;
}

/** A load (`tag` absent) or store by the CPU, with the faults it takes. */
export function cpuAccess(mm: Mm, page: number, tag?: number): CpuAccess {
  const write = tag !== undefined;
  const needed = pte.present | (write ? pte.write : 0);
  for (;;) {
    mm.pageTableLock.lock();
    const entry = mm.pageTable.read(page);
    if ((entry & needed) === needed) {
      const frame = pteFrame(entry);
      if (write) {
        mm.frames.setTag(frame, tag);
        if ((entry & pte.dirty) === 0) mm.pageTable.write(page, withFlags(entry, pte.dirty));
      }
      const found = mm.frames.tag(frame);
      mm.pageTableLock.unlock();
      return { rc: 0, tag: found };
    }
    mm.pageTableLock.unlock();
    const rc = handleFault(mm, page, write);
    if (rc !== 0) return { rc, tag: 0 };
  }
}
