// The PoD cache: zeroed frames of a domain that no gfn maps yet, as a list of 2M chunks and a list of 4K frames. They count
// in tot_pages. This file moves frames in and out; who decides how many there should be is cache-target.ts.
// All functions: pod lock held.
import type { Domain } from '../domain/domain.ts';
import { type Mfn, type Order, PAGE_ORDER_2M, SUPERPAGE_PAGES } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';
import { errno } from '../hypercall/errno.ts';
import { counter } from '../shared-memory/counters.ts';
import { step, stepKind } from '../shared-memory/step.ts';

const C_BREAK = counter('pod.breakChunk');

/**
 * Puts 2^order frames into the cache, zeroed (PoD promises zero pages) and marked. They must belong to `d` and be mapped
 * nowhere. Orders 9…18 are filed as 2M chunks, smaller ones as single frames (XSA-388).
 * 0; -EINVAL: not aligned; -EACCES: a frame is not the domain's. As Xen's p2m_pod_cache_add.
 */
export function cacheAdd(h: Host, d: Domain, m: Mfn, order: Order): number {
  const pages = 2 ** order;
  if (m % pages !== 0) return -errno.EINVAL;
  for (let i = 0; i < pages; i++) if (h.frames.ownerOf((m + i) as Mfn) !== d.domid) return -errno.EACCES;
  step(stepKind.cacheAdd, m);
  h.frames.scrub(m, pages);
  for (let i = 0; i < pages; i++) h.frames.setFlag((m + i) as Mfn, frameFlag.podCache);
  if (order >= PAGE_ORDER_2M) {
    for (let i = 0; i < pages; i += SUPERPAGE_PAGES) d.podSuper.append((m + i) as Mfn);
  } else {
    for (let i = 0; i < pages; i++) d.podSingle.append((m + i) as Mfn);
  }
  d.r.podCount += pages;
  return 0;
}

/**
 * Takes a 2M chunk (order 9; -1 if there is none) or one frame (order 0, breaking a chunk if need be). The frames are the
 * domain's plain pages again. Order 0 of an empty cache is a programmer's mistake. As Xen's p2m_pod_cache_get.
 */
export function cacheGet(h: Host, d: Domain, order: 0 | 9): Mfn | -1 {
  if (order === PAGE_ORDER_2M && d.podSuper.length === 0) return -1;
  step(stepKind.cacheGet, d.domid);
  if (order === 0 && d.podSingle.length === 0) {
    const chunk = d.podSuper.shift();
    h.assert(chunk >= 0, 'PoD cache has a frame to give');
    for (let i = 0; i < SUPERPAGE_PAGES; i++) d.podSingle.append((chunk + i) as Mfn);
    h.counters.add(C_BREAK);
  }
  const m = (order === PAGE_ORDER_2M ? d.podSuper : d.podSingle).shift();
  const pages = 2 ** order;
  for (let i = 0; i < pages; i++) h.frames.clearFlag((m + i) as Mfn, frameFlag.podCache);
  d.r.podCount -= pages;
  return m;
}
