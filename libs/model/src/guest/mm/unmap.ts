// Pages leave an address space: munmap, truncation of a file, discarding of a dying task's memory. Their frames are free once
// nobody else refers to them, which may be before the invalidation ends.
import { errno } from '../../hypercall/errno.ts';
import { invalidating, rangeOf } from './invalidation.ts';
import type { Mm } from './mm.ts';
import { hasFrame, pte, pteFrame } from './page-table.ts';
import type { Vma } from './vma.ts';

/** Maps `vma`: 0, or -ENOMEM. */
export function mmapPages(mm: Mm, vma: Omit<Vma, 'limit'> & { readonly limit?: number }): number {
  mm.mmap.writeLock();
  const added = mm.vmas.add({ limit: vma.end, ...vma });
  mm.mmap.writeUnlock();
  return added ? 0 : -errno.ENOMEM;
}

/** Takes the pages' entries out. `kind` says whether their content survives: a file's does, in the file. */
export function zapPages(mm: Mm, start: number, end: number, kind: Vma['kind'], discard: boolean): void {
  for (let page = start; page < end; page++) {
    mm.pageTableLock.lock();
    const entry = mm.pageTable.read(page);
    if ((entry & pte.migrating) !== 0) {
      mm.pageTableLock.unlock();
      mm.waitForMigration(page);
      page--;
      continue;
    }
    if (hasFrame(entry)) {
      const frame = pteFrame(entry);
      mm.pageTable.write(page, 0);
      mm.frames.hide(frame);
      if (kind === 'file' && !discard) storeFilePage(mm, page, entry);
      mm.pageTableLock.unlock();
      mm.frames.put(frame);
    } else mm.pageTableLock.unlock();
    if (discard || kind !== 'file') mm.pageTable.store(page, 0);
  }
}

/** A file page loses its entry: a dirty one is written, and of a clean one nothing may be newer than the file. */
export function storeFilePage(mm: Mm, page: number, entry: number): void {
  const tag = mm.frames.tag(pteFrame(entry));
  const stored = mm.pageTable.stored(page);
  if ((entry & pte.dirty) === 0 && tag !== stored) {
    const text = `file page ${page} is dropped as clean with ${tag} in it while the file has ${stored}`;
    mm.platform.violation({ invariant: 'noFileWriteLost', text, evidence: { page, tag, stored } });
  }
  if ((entry & pte.dirty) !== 0) mm.pageTable.store(page, tag);
}

/** munmap of the area that begins at `start`: 0, or -EINVAL. */
export function munmap(mm: Mm, start: number): number {
  mm.mmap.writeLock();
  try {
    const vma = mm.vmas.find(start);
    if (vma?.start !== start) return -errno.EINVAL;
    return invalidating(mm, rangeOf(start, vma.end, 'unmap'), () => {
      zapPages(mm, start, vma.end, vma.kind, false);
      mm.vmas.remove(start);
      return 0;
    });
  } finally {
    mm.mmap.writeUnlock();
  }
}

/** The file behind the area at `start` ends at page `limit` from now on: what lay beyond is gone. 0, or -EINVAL. */
export function truncate(mm: Mm, start: number, limit: number): number {
  const vma = mm.vmas.find(start);
  if (vma?.kind !== 'file' || limit < start || limit > vma.end) return -errno.EINVAL;
  mm.pageTableLock.lock();
  mm.vmas.setLimit(vma.start, limit);
  mm.pageTableLock.unlock();
  if (limit === vma.end) return 0;
  return invalidating(mm, rangeOf(limit, vma.end, 'clear'), () => {
    zapPages(mm, limit, vma.end, 'file', true);
    return 0;
  });
}

/**
 * The OOM reaper takes the anonymous memory of a dying task, area by area, without sleeping (as __oom_reap_task_mm). 0, or
 * -EAGAIN: something was locked or some subscriber refused; it may try again.
 */
export function oomReap(mm: Mm): number {
  if (!mm.mmap.tryReadLock()) return -errno.EAGAIN;
  try {
    let rc = 0;
    for (const { kind, start, end } of mm.vmas.list()) {
      if (kind !== 'ram') continue;
      const reaped = invalidating(mm, rangeOf(start, end, 'unmap', false), () => {
        zapPages(mm, start, end, kind, true);
        return 0;
      });
      rc ||= reaped;
    }
    return rc;
  } finally {
    mm.mmap.readUnlock();
  }
}
