// Ioreq servers as far as the p2m knows them: which exist, and which one has claimed the pages of type ioreq_server, whose writes
// then go to it (XEN_DMOP_map_mem_type_to_ioreq_server). What a server does with a write is a device model's business: in the
// model such a write is "emulated". Registration is under the paging lock, the claim under the p2m lock.
import type { Domain } from '../domain/domain.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { p2mLock, p2mUnlock } from './p2m.ts';

/** Servers of one domain (Xen's MAX_NR_IOREQ_SERVERS). */
const MAX_SERVERS = 8;
/** XEN_DMOP_IOREQ_MEM_ACCESS_WRITE: the one kind of access that can be claimed. */
export const IOREQ_MEM_ACCESS_WRITE = 2;

export const hasIoreqServer = (d: Domain, id: number): boolean =>
  id >= 0 && id < MAX_SERVERS && (d.r.ioreqServers & (1 << id)) !== 0;

/** Its id, or -ENOSPC. */
export function createIoreqServer(d: Domain): number {
  d.locks.paging.lock();
  try {
    for (let id = 0; id < MAX_SERVERS; id++) {
      if ((d.r.ioreqServers & (1 << id)) !== 0) continue;
      d.r.ioreqServers |= 1 << id;
      return id;
    }
    return -errno.ENOSPC;
  } finally {
    d.locks.paging.unlock();
  }
}

/** 0 or -ENOENT. It gives up its claim; pages of the type stay what they are, as in Xen, until somebody sets them back. */
export function destroyIoreqServer(h: Host, d: Domain, id: number): number {
  if (!hasIoreqServer(d, id)) return -errno.ENOENT;
  claimIoreqPages(h, d, id, 0);
  d.locks.paging.lock();
  d.r.ioreqServers &= ~(1 << id);
  d.locks.paging.unlock();
  return 0;
}

/** p2m_set_ioreq_server. flags 0 gives up. 0; -EBUSY: another server's, or its leftovers; -EINVAL: not this server's. */
export function claimIoreqPages(h: Host, d: Domain, id: number, flags: number): number {
  p2mLock(h, d);
  try {
    if (flags === 0) {
      if (d.r.ioreqServer !== id + 1) return -errno.EINVAL;
      d.r.ioreqServer = 0;
      d.r.ioreqFlags = 0;
      return 0;
    }
    if (d.r.ioreqServer !== 0 || d.r.ioreqEntryCount > 0) return -errno.EBUSY;
    d.r.ioreqServer = id + 1;
    d.r.ioreqFlags = flags;
    return 0;
  } finally {
    p2mUnlock(h, d);
  }
}
