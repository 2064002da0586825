// Where dom0's RAM lies and how it gets there. A PVH dom0 sees the host's own memory map with its RAM cut to its size, so that
// reserved regions and device memory keep their addresses; RMRRs are therefore never under its RAM.
import type { Domain } from '../domain/domain.ts';
import { MAX_MEMORY_MAP } from '../domain/domain-record.ts';
import { allocDomheap } from '../domain/memory.ts';
import { alignmentOrder, type Mfn, type Order, PAGE_ORDER_1G, PAGE_ORDER_2M, PAGE_SIZE } from '../frames/addresses.ts';
import type { Host } from '../host.ts';
import type { FrameRange } from '../host-config.ts';
import type { MemoryMapEntry } from '../hypercall/calls.ts';
import { guestPhysmapAddPage } from '../p2m/physmap.ts';

/** Whole frames of the host's usable regions, lowest first, `pages` in all, less what an RMRR covers. */
export function dom0Ram(h: Host, pages: number): FrameRange[] {
  const ranges: FrameRange[] = [];
  let left = pages;
  const usable = h.config.memoryMap.filter(({ type }) => type === 1).sort((a, b) => a.addr - b.addr);
  for (const { addr, size } of usable) {
    for (const free of withoutRmrrs(h, Math.ceil(addr / PAGE_SIZE), Math.floor((addr + size) / PAGE_SIZE))) {
      const take = Math.min(left, free.end - free.start);
      if (take <= 0) continue;
      ranges.push({ start: free.start, end: free.start + take });
      left -= take;
    }
  }
  if (left > 0) h.panic(`dom0 wants ${pages} pages, the memory map has ${pages - left}`);
  return ranges;
}

function withoutRmrrs(h: Host, start: number, end: number): FrameRange[] {
  let parts: FrameRange[] = [{ start, end }];
  for (const { startPfn, endPfn } of h.config.rmrrs) {
    parts = parts.flatMap((part) => [
      { start: part.start, end: Math.min(part.end, startPfn) },
      { start: Math.max(part.start, endPfn + 1), end: part.end },
    ]);
    parts = parts.filter((part) => part.start < part.end);
  }
  return parts;
}

/** The map dom0 gets from XENMEM_memory_map: its RAM, and everything of the host's map that is not RAM. */
export function setDom0MemoryMap(h: Host, d: Domain, ram: readonly FrameRange[]): void {
  const entries: MemoryMapEntry[] = [
    ...ram.map(({ start, end }) => ({ addr: start * PAGE_SIZE, size: (end - start) * PAGE_SIZE, type: 1 as const })),
    ...h.config.memoryMap.filter(({ type }) => type !== 1),
  ].sort((a, b) => a.addr - b.addr);
  const kept = entries.slice(0, MAX_MEMORY_MAP);
  d.r.memoryMap.set(kept.flatMap(({ addr, size, type }) => [addr, size, type]));
  d.r.memoryMapCount = kept.length;
}

/** RAM in the largest blocks that the gfns' alignment, the heap and EPT allow; 4K where nothing larger is left. */
export function populateDom0(h: Host, d: Domain, ram: readonly FrameRange[]): void {
  const { superpage1g, superpage2m } = h.config.ept;
  // Blocks larger than EPT's own pages buy nothing but fewer calls; a whole 1G block is one extent in the frame table.
  const largest: Order = superpage1g ? PAGE_ORDER_1G : superpage2m ? PAGE_ORDER_2M : 0;
  for (const { start, end } of ram) {
    let at = start;
    while (at < end) {
      const fits = Math.floor(Math.log2(end - at));
      let order = Math.min(largest, alignmentOrder(at, largest), fits);
      let m: Mfn | -1 = allocDomheap(h, d, order);
      while (m < 0 && order > 0) m = allocDomheap(h, d, --order);
      if (m < 0) h.panic(`Out of memory: dom0 has ${d.r.totPages} pages of those it should have`);
      const rc = guestPhysmapAddPage(h, d, at, m as Mfn, order);
      if (rc !== 0) h.panic(`dom0: cannot map gfn ${at.toString(16)} order ${order}: ${rc}`);
      at += 2 ** order;
    }
  }
}
