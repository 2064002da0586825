// Which frames of I/O memory a domain may be given: its iomem rangeset, as sorted, disjoint [first, last] pairs in its
// record. Changed under the domctl lock. dom0 may reach everything.
import { errno } from '../hypercall/errno.ts';
import type { Domain } from './domain.ts';
import { MAX_IOMEM_RANGES } from './domain-record.ts';

interface Range {
  readonly first: number;
  readonly last: number;
}

function ranges(d: Domain): Range[] {
  const { iomem } = d.r;
  return Array.from({ length: d.r.iomemCount }, (_, i) => ({
    first: iomem[i * 2] as number,
    last: iomem[i * 2 + 1] as number,
  }));
}

function store(d: Domain, all: readonly Range[]): number {
  if (all.length > MAX_IOMEM_RANGES) return -errno.ENOMEM;
  const { iomem } = d.r;
  for (const [i, { first, last }] of all.entries()) {
    iomem[i * 2] = first;
    iomem[i * 2 + 1] = last;
  }
  d.r.iomemCount = all.length;
  return 0;
}

const without = (all: readonly Range[], first: number, last: number): Range[] =>
  all.flatMap((r) => [
    ...(r.first < first ? [{ first: r.first, last: Math.min(r.last, first - 1) }] : []),
    ...(r.last > last ? [{ first: Math.max(r.first, last + 1), last: r.last }] : []),
  ]);

/** 0, or -ENOMEM when the record has no room for another range. */
export function permitIomem(d: Domain, first: number, last: number): number {
  const touching = ranges(d).filter((r) => r.first <= last + 1 && r.last >= first - 1);
  const low = Math.min(first, ...touching.map((r) => r.first));
  const high = Math.max(last, ...touching.map((r) => r.last));
  const all = [...without(ranges(d), low, high), { first: low, last: high }];
  return store(
    d,
    all.sort((a, b) => a.first - b.first),
  );
}

export const denyIomem = (d: Domain, first: number, last: number): number => store(d, without(ranges(d), first, last));

export const mayAccessIomem = (d: Domain, first: number, last: number): boolean =>
  d.isHardware || ranges(d).some((r) => r.first <= first && r.last >= last);
