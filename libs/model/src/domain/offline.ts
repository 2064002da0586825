// Frames are taken out of use, as an administrator does with memory that shows errors: what happens depends on who has the
// frame. Who has it keeps it; nobody is moved. A machine check does not exist here, so no frame is ever `broken`.
// Facts: Xen's offline_page, online_page and query_page_offline.
import type { Mfn } from '../frames/addresses.ts';
import { DOMID_XEN } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { podOfflineHit, podOfflineReplace } from '../pod/offline.ts';
import { putPage } from './memory.ts';

/** PG_OFFLINE_* and PG_ONLINE_* (`offlined` is also ONLINE_ONLINED): the owner's number stands from bit 16 up. */
export const pageOffline = {
  offlined: 1 << 1,
  pending: 1 << 2,
  failed: 1 << 3,
  xenPage: 1 << 8,
  anonymous: 1 << 10,
  notConvRam: 1 << 11,
  owned: 1 << 12,
} as const;
/** PG_OFFLINE_STATUS_*: what a query answers. */
export const offlineStatus = { offlined: 1 << 1, pending: 1 << 3 } as const;
/** What a frame's word holds that was not looked at: Xen sets all bytes to PG_OFFLINE_INVALID beforehand. */
export const UNTOUCHED_STATUS = 0x01010101;
const OWNER_SHIFT = 2 ** 16;
const DOMID_INVALID = 0x7ff4;

export interface PageStatus {
  readonly rc: number;
  readonly status: number;
}

const refused: PageStatus = { rc: -errno.EINVAL, status: UNTOUCHED_STATUS };

/** RAM that the heap was given at boot. */
const isRam = (h: Host, m: Mfn): boolean => h.config.heapRanges.some((r) => m >= r.start && m < r.end);

/**
 * The frame shall not be used again: at once if it is free or in a PoD cache (which gets another), else once its last user
 * has freed it. A table page has no owner to wait for: marked as well, but reported as failed.
 */
export function offlinePage(h: Host, m: Mfn): PageStatus {
  if (!h.frames.valid(m)) return refused;
  if (!isRam(h, m)) return { rc: -errno.EINVAL, status: pageOffline.failed | pageOffline.notConvRam };
  if (h.heap.setOffline(m) === 'offlined') return { rc: 0, status: pageOffline.offlined };
  const owner = h.frames.ownerOf(m);
  const d = owner < 0 ? null : h.domain(owner);
  if (!d || !h.frames.getPage(m, d.domid)) {
    return { rc: 0, status: pageOffline.anonymous + pageOffline.failed + DOMID_INVALID * OWNER_SHIFT };
  }
  const inCache = d.isTranslated && podOfflineHit(h, d, m);
  if (inCache) {
    putPage(h, m);
    podOfflineReplace(h, d, m);
    return { rc: 0, status: pageOffline.offlined };
  }
  const xens = h.frames.has(m, frameFlag.special);
  putPage(h, m);
  if (xens) return { rc: 0, status: pageOffline.xenPage + pageOffline.pending + DOMID_XEN * OWNER_SHIFT };
  return { rc: 0, status: pageOffline.owned + pageOffline.pending + d.domid * OWNER_SHIFT };
}

/** The frame may be used again. Status 0: nothing was wrong with it. */
export function onlinePage(h: Host, m: Mfn): PageStatus {
  if (!h.frames.valid(m)) return refused;
  return { rc: 0, status: h.heap.setOnline(m) === 'online' ? 0 : pageOffline.offlined };
}

export function queryPageOffline(h: Host, m: Mfn): PageStatus {
  if (!h.frames.valid(m) || !isRam(h, m)) return refused;
  const health = h.heap.query(m);
  return { rc: 0, status: health === 'online' ? 0 : offlineStatus[health === 'offlined' ? 'offlined' : 'pending'] };
}
