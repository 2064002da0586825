// A page moves to another frame: between RAM and the GPU's memory, or within either. While it moves its entry is a migration
// entry, and who faults on it waits. A page to which others than the page table refer stays where it is.
import { errno } from '../../hypercall/errno.ts';
import { type FrameIndex, NO_FRAME, type Pool } from './frame-pools.ts';
import { invalidating, rangeOf } from './invalidation.ts';
import type { Mm } from './mm.ts';
import { frameEntry, hasFrame, migrationEntry, pte, pteFrame, withFlags } from './page-table.ts';

/** 0; -ENOENT: it has no frame; -EAGAIN: others refer to it; -ENOMEM: no frame there; -EINVAL: such a page cannot go there. */
export function migratePage(mm: Mm, page: number, to: Pool): number {
  const kind = mm.vmas.find(page)?.kind;
  if (kind === undefined || kind === 'grant' || (kind === 'file' && to === 'vram')) return -errno.EINVAL;
  const target = mm.frames.alloc(to);
  if (target === NO_FRAME) return -errno.ENOMEM;
  const rc = invalidating(mm, rangeOf(page, page + 1, 'migrate'), () => moveTo(mm, page, target));
  if (rc !== 0) mm.frames.put(target);
  return rc;
}

function moveTo(mm: Mm, page: number, target: FrameIndex): number {
  const entry = takeEntry(mm, page);
  if (entry < 0) return entry;
  const old = pteFrame(entry);
  // Pins and other references as migrate_pages finds them: the page goes back where it was.
  const alone = mm.frames.references(old) === 1;
  if (alone) mm.frames.setTag(target, mm.frames.tag(old));
  const flags = withFlags(entry & 0xff, placeFlag(mm, page, target), pte.present | pte.device);
  giveEntry(mm, page, alone ? frameEntry(target, flags) : entry);
  if (alone) mm.frames.put(old);
  return alone ? 0 : -errno.EAGAIN;
}

/** Anonymous memory in a GPU is device-private; a buffer object is the CPU's to reach through the BAR. */
function placeFlag(mm: Mm, page: number, target: FrameIndex): number {
  const hidden = mm.frames.poolOf(target) === 'vram' && mm.vmas.find(page)?.kind === 'ram';
  return hidden ? pte.device : pte.present;
}

/** The page's entry, replaced by a migration entry of this task; -ENOENT, or -EAGAIN: somebody else moves it. */
export function takeEntry(mm: Mm, page: number): number {
  mm.pageTableLock.lock();
  const entry = mm.pageTable.read(page);
  const ours = hasFrame(entry);
  if (ours) {
    mm.pageTable.write(page, migrationEntry(mm.task));
    mm.frames.hide(pteFrame(entry));
  }
  mm.pageTableLock.unlock();
  if (ours) return entry;
  return (entry & pte.migrating) !== 0 ? -errno.EAGAIN : -errno.ENOENT;
}

/** Ends what takeEntry began: `entry` stands, and who waits goes on. */
export function giveEntry(mm: Mm, page: number, entry: number): void {
  mm.pageTableLock.lock();
  if (hasFrame(entry)) mm.frames.show(pteFrame(entry), page);
  mm.pageTable.write(page, entry);
  mm.pageTableLock.unlock();
  mm.pageTable.migrationEnded();
}
