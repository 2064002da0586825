// The map a PV guest with e820_host sees: the host's, with the guest's own RAM put below the host's first non-RAM region
// and the rest of its memory above 4 GiB. As libxl's e820_sanitize. Not for HVM or PVH guests.

import { E820_RAM, E820_UNUSABLE, type E820Entry, E820MAX, type E820Type, FOUR_GIB, KIB, MIB } from './e820.ts';
import { ERROR_FAIL, ERROR_INVAL } from './passthrough-policy.ts';

export interface PvE820Request {
  readonly hostE820: readonly E820Entry[];
  readonly targetMemkb: number;
  /** maxmem − memory + slack. */
  readonly balloonKb: number;
}

export type PvE820Result =
  | { readonly ok: true; readonly e820: E820Entry[] }
  | { readonly ok: false; readonly rc: number; readonly message: string };

/** A host region under work; type 0 is dropped at the end. */
interface Region {
  addr: number;
  size: number;
  type: E820Type | 0;
}

/** Turns host RAM below 4 GiB into UNUSABLE (Linux would take a gap for PCI space) and drops what the guest's RAM covers. */
function retype(region: Region, ramEnd: number): void {
  const end = region.addr + region.size;
  if (region.type === E820_UNUSABLE || end < ramEnd) {
    region.type = 0;
    return;
  }
  if (region.type !== E820_RAM || region.addr >= FOUR_GIB) return;
  if (region.addr < ramEnd) {
    region.size -= ramEnd - region.addr; // end >= ramEnd, so never negative; zero-sized entries stay, as in Xen
    region.addr = ramEnd;
    region.type = E820_UNUSABLE;
  }
  if (end > ramEnd) region.type = E820_UNUSABLE;
}

/** Fills [ramEnd, firstReserved), the gap right after the guest's RAM, or stretches the region that begins there. */
function fillGap(regions: Region[], ramEnd: number, firstReserved: number, out: E820Entry[]): void {
  const adjacent = regions.find((r) => r.type === E820_UNUSABLE && r.addr === ramEnd);
  if (adjacent) adjacent.size = firstReserved - adjacent.addr;
  else out.push({ addr: ramEnd, size: firstReserved - ramEnd, type: E820_UNUSABLE });
}

export function sanitizePvE820(r: PvE820Request): PvE820Result {
  if (r.targetMemkb === 0 || r.hostE820.length === 0) {
    return { ok: false, rc: ERROR_INVAL, message: 'no memory or no host memory map' };
  }
  if (r.hostE820.length > E820MAX) return { ok: false, rc: ERROR_FAIL, message: 'host memory map too long' };
  const regions: Region[] = r.hostE820.filter((e) => e.addr > MIB).map((e) => ({ ...e }));

  // Start of the lowest region that is neither RAM nor unusable; null where Xen has all ones.
  let first: number | null = null;
  for (const region of regions) {
    if (region.type === E820_RAM || region.type === E820_UNUSABLE || region.type === 0) continue;
    if (first === null || region.addr < first) first = region.addr;
  }
  const firstKb = first !== null && first > 1024 ? Math.floor(first / KIB) : 0;
  const deltaKb = firstKb !== 0 && r.targetMemkb > firstKb ? r.targetMemkb - firstKb : 0;
  const ramEnd = (r.targetMemkb - deltaKb) * KIB;

  const e820: E820Entry[] = [{ addr: 0, size: ramEnd, type: E820_RAM }];
  for (const region of regions) retype(region, ramEnd);
  if (first === null)
    fillGap(regions, ramEnd, -1, e820); // −1 − ramEnd: the u64 that Xen computes
  else if (first > ramEnd) fillGap(regions, ramEnd, first, e820);
  for (const { addr, size, type } of regions) {
    if (type !== E820_RAM && type !== 0) e820.push({ addr, size, type });
  }
  // Xen means "after the last entry, but not below 4 GiB"; a misplaced comparison makes it always 4 GiB.
  if (r.balloonKb !== 0 || deltaKb !== 0) {
    e820.push({ addr: FOUR_GIB, size: (deltaKb + r.balloonKb) * KIB, type: E820_RAM });
  }
  return { ok: true, e820 };
}
