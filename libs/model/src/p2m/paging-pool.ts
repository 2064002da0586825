// The paging pool: the frames a domain may turn into p2m tables. Sized by the toolstack (4 KiB per MiB of RAM and 1 MiB per
// vCPU); when it is empty a split or a new table fails with -ENOMEM, and a dying domain gets none (XSA-410).
import type { Domain } from '../domain/domain.ts';
import { allocAnonymous, freeAnonymous } from '../domain/memory.ts';
import type { Mfn } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { counter } from '../shared-memory/counters.ts';
import { type TableIndex, tableUse } from '../shared-memory/table-pages.ts';

const C_ALLOC = counter('p2m.ptAlloc');
const C_FREE = counter('p2m.ptFree');

/** What a new HAP domain's pool starts with (Xen's hap_enable). */
export const INITIAL_POOL_PAGES = 256;
/** Xen checks for preemption after each page; this many per slice keeps our slices short. */
const SLICE_PAGES = 2048;

/**
 * Moves the pool towards `pages`; one slice. 0 = reached; >0 = pages still to go (call again); -ENOMEM: the host has no
 * frame, or the pool cannot shrink below what is in use. Takes the paging lock.
 */
export function setPagingPool(h: Host, d: Domain, pages: number, slice = SLICE_PAGES): number {
  d.locks.paging.lock();
  try {
    for (let i = 0; i < slice; i++) {
      if (d.r.poolTotal === pages) return 0;
      if (d.r.poolTotal < pages) {
        const m = allocAnonymous(h);
        if (m < 0) return -errno.ENOMEM;
        d.pool.append(m as Mfn);
        d.r.poolTotal++;
      } else {
        const m = d.pool.shift();
        if (m < 0) return -errno.ENOMEM;
        freeAnonymous(h, m as Mfn);
        d.r.poolTotal--;
      }
    }
    return Math.abs(pages - d.r.poolTotal);
  } finally {
    d.locks.paging.unlock();
  }
}

/** An empty table page of `d`, or 0. */
export function p2mAllocTable(h: Host, d: Domain): TableIndex | 0 {
  if (d.dying) return 0;
  d.locks.paging.lock();
  const frame = d.pool.shift();
  let table: TableIndex | 0 = 0;
  if (frame >= 0) {
    table = h.tables.alloc(tableUse.p2m, d.slot, frame);
    if (table === 0) d.pool.prepend(frame as Mfn);
    else h.counters.add(C_ALLOC);
  }
  d.locks.paging.unlock();
  return table;
}

/** Back to the pool. Nothing may be able to walk the page: flush first (XSA-480). */
export function p2mFreeTable(h: Host, d: Domain, table: TableIndex): void {
  const frame = h.tables.free(table);
  h.counters.add(C_FREE);
  d.locks.paging.lock();
  d.pool.append(frame as Mfn);
  d.locks.paging.unlock();
}
