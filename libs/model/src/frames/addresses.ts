// The address spaces of the memory plane, as Xen's xen/mm.h names them. This file owns the names and the conversions
// between a frame number and an address; it knows nothing of tables or owners.
//
//   gfn  what a guest puts into its own page tables          HVM/PVH: gfn != mfn   PV: gfn == mfn
//   pfn  the guest's linear frame number                     HVM/PVH: pfn == gfn   PV: pfn != gfn
//   mfn  host machine frame (RAM or MMIO)
//   dfn  a device's DMA frame, the IOMMU's input             one space per domain; dfn == gfn (PV: dfn == mfn)
//
// A *frame* is a number of 4 KiB units; an *address* (gpa, maddr) is frame * 4096. Never name a frame `addr`.

export type Gfn = number & { readonly __brand: 'Gfn' };
export type Mfn = number & { readonly __brand: 'Mfn' };
export type Dfn = number & { readonly __brand: 'Dfn' };
export type Domid = number & { readonly __brand: 'Domid' };
/** Segment, bus, device and function packed as (segment << 16) | (bus << 8) | (device << 3) | function. */
export type Sbdf = number & { readonly __brand: 'Sbdf' };
/** log2 of a number of 4 KiB frames: 0 = 4K, 9 = 2M, 18 = 1G; the buddy allocator uses every value between. */
export type Order = number;

export const PAGE_SIZE = 4096;
export const PAGE_ORDER_2M = 9;
export const PAGE_ORDER_1G = 18;
export const SUPERPAGE_PAGES = 512;

/** "All ones" in the 37 bits that a table slot has for a frame number (Xen: ~0UL). */
export const INVALID_MFN = (2 ** 37 - 1) as Mfn;
export const INVALID_DFN = (2 ** 37 - 1) as Dfn;
/** Guests have 48-bit physical addresses, so frames of 36 bits (EPT's four levels). */
export const MAX_GFN = 2 ** 36 - 1;
/** The highest gfn that can be RAM: M2P keeps a gfn and 1 in 32 bits, where Xen keeps 64. 16 TiB. */
export const MAX_RAM_GFN = 2 ** 32 - 2;

export const DOMID_SELF = 0x7ff0 as Domid;
/** Owner of I/O memory, and of a quarantined device. */
export const DOMID_IO = 0x7ff1 as Domid;
export const DOMID_XEN = 0x7ff2 as Domid;
/** First domid that is not an ordinary domain's. */
export const DOMID_FIRST_RESERVED = 0x7ff0;

export const dfn = (n: number): Dfn => n as Dfn;

/** The largest order at which both numbers are aligned: ctz(frame | 2^max), for frames above 2^32 too. */
export function alignmentOrder(frame: number, max: Order): Order {
  const low = frame % 2 ** 31; // exact: frames are non-negative integers below 2^53
  const bits = low | (1 << max);
  return 31 - Math.clz32(bits & -bits);
}

export function sbdf(segment: number, bus: number, device: number, fn: number): Sbdf {
  return (segment * 65536 + (bus << 8) + (device << 3) + fn) as Sbdf;
}

/** `SSSS:BB:DD.F`, as Xen prints it. */
export function formatSbdf(s: Sbdf): string {
  const hex = (n: number, width: number): string => n.toString(16).padStart(width, '0');
  return `${hex(Math.floor(s / 65536), 4)}:${hex((s >> 8) & 0xff, 2)}:${hex((s >> 3) & 0x1f, 2)}.${s & 7}`;
}

/** Reads `[SSSS:]BB:DD.F` (hex); null if it is not one. */
export function parseSbdf(text: string): Sbdf | null {
  const m = /^(?:([0-9a-f]{1,4}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$/i.exec(text);
  if (!m) return null;
  const device = Number.parseInt(m[3] as string, 16);
  if (device > 0x1f) return null;
  return sbdf(Number.parseInt(m[1] ?? '0', 16), Number.parseInt(m[2] as string, 16), device, Number(m[4]));
}
