// A frame that is taken out of use while it is in a PoD cache: it leaves the cache, which gets another one for it.
import type { Domain } from '../domain/domain.ts';
import { allocDomheap, putAllocRef } from '../domain/memory.ts';
import { type Mfn, SUPERPAGE_PAGES } from '../frames/addresses.ts';
import { frameFlag } from '../frames/frame-table.ts';
import type { Host } from '../host.ts';
import { cacheAdd } from './cache.ts';

/**
 * As Xen's p2m_pod_offline_or_broken_hit: if the frame is in the cache of `d` it becomes a plain page of the domain, and the
 * rest of its 2M chunk single frames. Takes the pod lock.
 */
export function podOfflineHit(h: Host, d: Domain, m: Mfn): boolean {
  d.locks.pod.lock();
  try {
    if (!h.frames.has(m, frameFlag.podCache)) return false;
    const chunk = (m - (m % SUPERPAGE_PAGES)) as Mfn;
    if (isChunk(d, chunk)) {
      d.podSuper.remove(chunk);
      for (let i = 0; i < SUPERPAGE_PAGES; i++) if (chunk + i !== m) d.podSingle.append((chunk + i) as Mfn);
    } else d.podSingle.remove(m);
    h.frames.clearFlag(m, frameFlag.podCache);
    d.r.podCount -= 1;
    return true;
  } finally {
    d.locks.pod.unlock();
  }
}

function isChunk(d: Domain, head: Mfn): boolean {
  for (const chunk of d.podSuper) if (chunk === head) return true;
  return false;
}

/**
 * As Xen's p2m_pod_offline_or_broken_replace: the frame goes (and, being marked, does not come back), one fresh 4K frame
 * joins the cache instead. If there is none the cache stays one short, and nobody is told.
 */
export function podOfflineReplace(h: Host, d: Domain, m: Mfn): void {
  putAllocRef(h, m);
  const fresh = allocDomheap(h, d, 0);
  if (fresh < 0) return;
  d.locks.pod.lock();
  const rc = cacheAdd(h, d, fresh as Mfn, 0);
  h.assert(rc === 0, 'a fresh page of the domain fits the PoD cache');
  d.locks.pod.unlock();
}
