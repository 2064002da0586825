// Populating an HVM or PVH guest: claim, PoD target, then RAM in 1 GiB, 2 MiB and 4 KiB extents, in the order and sizes of
// libxenguest's meminit_hvm. Owns the order of the calls. The port is the hypervisor's: the live toolstack and the
// conformance host drive this same function.

import { XENMEMF_populate_on_demand } from '../hypercall/calls.ts';

const PAGE = 4096;
const NR_4K_PER_2M = 512;
const NR_4K_PER_1G = 512 * 512;
const ORDER_2M = 9;
const ORDER_1G = 18;
/** At most four 2 MiB extents a call, and as many 4 KiB pages. */
const MAX_2M_PAGES = 4 * NR_4K_PER_2M;
const FIRST_VGA_PAGE = 0xa0;
const FIRST_PAGE_AFTER_VGA = 0xc0;
const XENMEMF_EXACT_NODE_REQUEST = 0x20000;
/** Bits 15:8 of the flags: node + 1. */
const NODE_SHIFT = 8;

export interface BuilderHypercalls {
  /** XENMEM_populate_physmap of `extents` extents of 2^order pages at contiguous pfns; how many were done (negative errno: none). */
  populate(order: number, flags: number, extents: number, firstPfn: number): number;
  /** XENMEM_claim_pages; 0 gives a claim back. */
  claim(pages: number): boolean;
  setPodTarget(pages: number): boolean;
}

/** Byte range [start, end) of virtual node `nid`. */
export interface VmemRange {
  readonly start: number;
  readonly end: number;
  readonly nid: number;
}

export interface MeminitRequest {
  readonly totalPages: number;
  readonly targetPages: number;
  readonly lowmemEnd: number;
  readonly highmemEnd: number;
  readonly mmioStart: number;
  readonly mmioSize: number;
  readonly vgaHolePages: number;
  readonly deviceModel: boolean;
  readonly claimEnabled: boolean;
  readonly memflags: number;
  /** Empty: one range below and one above 4 GiB. */
  readonly vmemranges: readonly VmemRange[];
  /** By virtual node; -1: no physical node asked for. */
  readonly vnodeToPnode: readonly number[];
}

export interface PageCounts {
  readonly pages4k: number;
  readonly pages2m: number;
  readonly pages1g: number;
}

export type MeminitResult =
  | { readonly ok: true; readonly p2mSize: number; readonly counts: PageCounts }
  | { readonly ok: false; readonly p2mSize: number; readonly message: string };

interface Cursor {
  pages4k: number;
  pages2m: number;
  pages1g: number;
}

/** Distance to the next multiple of `unit` (a multiple itself counts as `0`). */
const toBoundary = (page: number, unit: number): number => (unit - (page % unit)) % unit;

/** Up to the boundary if it begins inside a superpage; without the tail if it ends inside one and holds a whole one. */
function clipToSuperpage(count: number, page: number, unit: number): number {
  const distance = toBoundary(page, unit);
  if (distance !== 0 && count > distance) return distance;
  if (count % unit !== 0 && count > unit) return count - (count % unit);
  return count;
}

function rangesOf(r: MeminitRequest): readonly VmemRange[] {
  if (r.vmemranges.length > 0) return r.vmemranges;
  const low = { start: 0, end: r.lowmemEnd, nid: 0 };
  return r.highmemEnd > 2 ** 32 ? [low, { start: 2 ** 32, end: r.highmemEnd, nid: 0 }] : [low];
}

/** One pass of the builder's loop: at most 1 GiB, at most 8 MiB if not by a 1 GiB page. Null on a short 4 KiB call. */
function populateStep(
  r: MeminitRequest,
  host: BuilderHypercalls,
  flags: number,
  start: number,
  end: number,
  counts: Cursor,
): number | null {
  let page = start;
  let count = clipToSuperpage(Math.min(end - page, NR_4K_PER_1G), page, NR_4K_PER_1G);

  const aligned1g = count % NR_4K_PER_1G === 0 && start % NR_4K_PER_1G === 0;
  const bytes = start * PAGE;
  const meetsHole = bytes + NR_4K_PER_1G * PAGE > r.mmioStart && bytes < r.mmioStart + r.mmioSize;
  if (aligned1g && !meetsHole) {
    const done = Math.max(0, host.populate(ORDER_1G, flags, 1, page));
    counts.pages1g += done;
    page += done * NR_4K_PER_1G;
    count -= done * NR_4K_PER_1G;
  }
  if (count !== 0) {
    // Alignment is judged from where the pass began, also after a 1 GiB attempt.
    count = clipToSuperpage(Math.min(count, MAX_2M_PAGES), start, NR_4K_PER_2M);
    if (count % NR_4K_PER_2M === 0 && start % NR_4K_PER_2M === 0) {
      const done = Math.max(0, host.populate(ORDER_2M, flags, count / NR_4K_PER_2M, page));
      counts.pages2m += done;
      page += done * NR_4K_PER_2M;
      count -= done * NR_4K_PER_2M;
    }
  }
  if (count !== 0) {
    const done = host.populate(0, flags, count, page);
    if (done !== count) return null;
    counts.pages4k += count;
    page += count;
  }
  return page;
}

function populateRange(
  r: MeminitRequest,
  host: BuilderHypercalls,
  range: VmemRange,
  podFlags: number,
  counts: Cursor,
): boolean {
  const pnode = r.vmemranges.length > 0 ? (r.vnodeToPnode[range.nid] ?? -1) : -1;
  const nodeGiven = ((podFlags >> NODE_SHIFT) & 0xff) !== 0;
  const flags =
    pnode >= 0 && !nodeGiven ? podFlags | XENMEMF_EXACT_NODE_REQUEST | ((pnode + 1) << NODE_SHIFT) : podFlags;
  const end = Math.floor(range.end / PAGE);
  let page = Math.floor(range.start / PAGE);
  if (range.start === 0 && r.deviceModel) {
    page = FIRST_PAGE_AFTER_VGA;
    counts.pages4k += FIRST_PAGE_AFTER_VGA; // the builder's own log counts the VGA hole here too
  }
  while (page < end) {
    const next = populateStep(r, host, flags, page, end, counts);
    if (next === null) return false;
    page = next;
  }
  return true;
}

function populateAll(
  r: MeminitRequest,
  host: BuilderHypercalls,
  ranges: readonly VmemRange[],
  counts: Cursor,
): string | null {
  const pod = r.totalPages > r.targetPages;
  const flags = pod ? r.memflags | XENMEMF_populate_on_demand : r.memflags;
  const held = r.targetPages - r.vgaHolePages;
  const pages = held < 0 ? 2 ** 64 + held : held; // unsigned in libxenguest
  if (r.claimEnabled && !host.claim(pages)) {
    return 'Could not allocate memory for HVM guest as we cannot claim memory!';
  }
  // Before any population: this fills the cache that the PoD entries will draw on.
  if (pod && !host.setPodTarget(pages)) return 'Could not set PoD target for HVM guest.';
  if (r.deviceModel && host.populate(0, flags, FIRST_VGA_PAGE, 0) !== FIRST_VGA_PAGE) {
    return 'Could not populate low memory (< 0xA0).';
  }
  for (const range of ranges) {
    if (!populateRange(r, host, range, flags, counts)) return 'Could not allocate memory for HVM guest.';
  }
  return null;
}

/** Populates the guest; a claim is given back at the end whatever happened. */
export function meminitHvm(r: MeminitRequest, host: BuilderHypercalls): MeminitResult {
  const ranges = rangesOf(r);
  const failed = (message: string, p2mSize: number): MeminitResult => {
    host.claim(0);
    return { ok: false, p2mSize, message };
  };
  if (r.vmemranges.length > 0 && r.totalPages > r.targetPages) {
    return failed('Cannot enable vNUMA and PoD at the same time', 0);
  }
  let pages = 0;
  let p2mSize = 0;
  for (const range of ranges) {
    pages += Math.floor((range.end - range.start) / PAGE);
    p2mSize = Math.max(p2mSize, Math.floor(range.end / PAGE));
  }
  if (pages !== r.totalPages) {
    const hex = (n: number): string => `0x${n.toString(16)}`;
    return failed(`vNUMA memory pages mismatch (${hex(pages)} != ${hex(r.totalPages)})`, 0);
  }
  const counts: Cursor = { pages4k: 0, pages2m: 0, pages1g: 0 };
  const failure = populateAll(r, host, ranges, counts);
  if (failure !== null) return failed(failure, p2mSize);
  host.claim(0);
  return { ok: true, p2mSize, counts };
}
