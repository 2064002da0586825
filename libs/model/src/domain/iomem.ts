// Which frames of I/O memory a domain may be given: its iomem rangeset. Changed under the domctl lock. dom0 may reach
// everything.
import { errno } from '../hypercall/errno.ts';
import { addRange, containsRange, removeRange } from '../shared-memory/range-set.ts';
import type { Domain } from './domain.ts';

function keep(d: Domain, count: number): number {
  if (count < 0) return -errno.ENOMEM;
  d.r.iomemCount = count;
  return 0;
}

/** 0, or -ENOMEM when the record has no room for another range. */
export const permitIomem = (d: Domain, first: number, last: number): number =>
  keep(d, addRange(d.r.iomem, d.r.iomemCount, first, last));

export const denyIomem = (d: Domain, first: number, last: number): number =>
  keep(d, removeRange(d.r.iomem, d.r.iomemCount, first, last));

export const mayAccessIomem = (d: Domain, first: number, last: number): boolean =>
  d.isHardware || containsRange(d.r.iomem, d.r.iomemCount, first, last);
