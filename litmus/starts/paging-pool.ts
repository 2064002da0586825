// Starts with an empty paging pool.
import type { Setup } from '#explore/world';

/** The domain's paging pool has no page left: no table can be made, no superpage split. */
export function emptyPool(s: Setup, domid: number): void {
  const d = s.domain(domid);
  const bytes = (d.r.poolTotal - d.pool.length) * 4096;
  s.expect(s.call(0, { op: 'set_paging_mempool_size', domid, bytes }).rc, 0, 'emptying the paging pool');
}
