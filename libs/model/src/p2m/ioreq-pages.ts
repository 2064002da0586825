// The pages through which Xen and an ioreq server talk: one for buffered requests, one for those of up to 128 vCPUs. They are Xen's,
// in the guest's name but not in its count of pages, and a device model maps them by acquire_resource. Paging lock.
import type { Domain } from '../domain/domain.ts';
import { allocAnonymous, putAllocRef } from '../domain/memory.ts';
import type { Mfn } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { hasIoreqServer } from './ioreq-server.ts';

const SERVERS = 8;
const VCPUS_PER_PAGE = 128;

/** Frames of the resource: 0 = buffered, then one per 128 vCPUs. */
export const ioreqFrames = (d: Domain): number => 1 + Math.ceil(d.r.vcpus / VCPUS_PER_PAGE);

const FRAMES_PER_SERVER = 2;

/** Frame `index` of server `id`, with a reference; made at the first call. -ENOENT: no such server; -EINVAL: no such frame; -ENOMEM. */
export function getIoreqFrame(h: Host, d: Domain, id: number, index: number): Mfn | number {
  d.locks.paging.lock();
  try {
    if (!hasIoreqServer(d, id)) return -errno.ENOENT;
    if (index >= ioreqFrames(d)) return -errno.EINVAL;
    if (d.dying) return -errno.EINVAL;
    const at = id * FRAMES_PER_SERVER + index;
    if (d.r.ioreqPages[at] === 0) {
      const m = allocAnonymous(h);
      if (m < 0) return -errno.ENOMEM;
      h.frames.fillBlock(m as Mfn, 1, d.domid, 1, frameFlag.allocated | frameFlag.special);
      d.r.ioreqPages[at] = m + 1;
    }
    const m = ((d.r.ioreqPages[at] as number) - 1) as Mfn;
    return h.frames.getPage(m, d.domid) ? m : -errno.EINVAL;
  } finally {
    d.locks.paging.unlock();
  }
}

/** The server is gone: its pages go when nobody has them mapped any more. */
export function freeIoreqFrames(h: Host, d: Domain, id: number): void {
  d.locks.paging.lock();
  const freed: Mfn[] = [];
  for (let at = id * FRAMES_PER_SERVER; at < (id + 1) * FRAMES_PER_SERVER; at++) {
    if (d.r.ioreqPages[at] === 0) continue;
    freed.push(((d.r.ioreqPages[at] as number) - 1) as Mfn);
    d.r.ioreqPages[at] = 0;
  }
  d.locks.paging.unlock();
  for (const m of freed) putAllocRef(h, m);
}

/** Destroy, stage g. */
export function freeAllIoreqFrames(h: Host, d: Domain): void {
  for (let id = 0; id < SERVERS; id++) freeIoreqFrames(h, d, id);
}
