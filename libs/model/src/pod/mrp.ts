// The ring of most recently populated gfns, and the cheap reclaim that goes round it: memory that a guest touched lately
// but that is still zero (a zeroing kernel's free pages) can go back to the cache. p2m and pod locks held.
// A slot holds 2 * (gfn + 1), plus 1 when it stands for a whole 2M extent; 0 = empty.
import type { Domain } from '../domain/domain.ts';
import { POD_MRP_SLOTS } from '../domain/domain-record.ts';
import { type Gfn, type Order, PAGE_ORDER_2M, SUPERPAGE_PAGES } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import { zeroCheck, zeroCheckSuperpage } from './zero-check.ts';

/** As Xen's pod_eager_record. */
export function recordPopulated(d: Domain, gfn: number, order: Order): void {
  d.r.podMrp[d.r.podMrpIdx] = 2 * (gfn + 1) + (order === PAGE_ORDER_2M ? 1 : 0);
  d.r.podMrpIdx = (d.r.podMrpIdx + 1) % POD_MRP_SLOTS;
}

/** As Xen's pod_eager_reclaim: at least one slot, then on until something was found or the ring is through. */
export function eagerReclaim(h: Host, d: Domain): void {
  for (let i = 0; i < POD_MRP_SLOTS; i++) {
    if (i > 0 && d.r.podCount > 0) return;
    const index = (d.r.podMrpIdx + i) % POD_MRP_SLOTS;
    const slot = d.r.podMrp[index] as number;
    if (slot === 0) continue;
    const gfn = Math.floor(slot / 2) - 1;
    if (slot % 2 === 1) reclaimExtent(h, d, gfn);
    else zeroCheck(h, d, [gfn as Gfn]);
    d.r.podMrp[index] = 0;
  }
}

function reclaimExtent(h: Host, d: Domain, gfn: number): void {
  if (zeroCheckSuperpage(h, d, gfn as Gfn) > 0) return;
  for (let i = 0; i < SUPERPAGE_PAGES; i++) zeroCheck(h, d, [(gfn + i) as Gfn]);
}
