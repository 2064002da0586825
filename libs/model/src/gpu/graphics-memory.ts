// Graphics memory as guests share it: each has a slice of the part behind the aperture and one of the part that is not, and the
// aperture's arithmetic. A guest's driver keeps out of all other slices ("balloons" them), so that its addresses are the
// hardware's and its commands need no translation. What it is told stands in the PVINFO page (GVT-g's layout: one page at 78000 of the GPU's MMIO). Pure.
import type { MediatedGpuConfig } from '../host-config.ts';

export interface Slice {
  /** Pages of graphics memory: [base, base + size). */
  readonly base: number;
  readonly size: number;
}

/** What one guest has: the first slice lies behind the aperture. */
export interface Partition {
  readonly mappable: Slice;
  readonly unmappable: Slice;
}

/** 0x4776544776544776 ("vGTvGTvG"), as two 32-bit words. */
export const PVINFO_MAGIC = { low: 0x7654_4776, high: 0x4776_5447 } as const;
export const pvinfoCaps = { fullPpgtt: 4, hwspEmulation: 8, hugeGtt: 16 } as const;
/** g2v notifications. */
export const notifyCode = { l3Create: 2, l3Destroy: 3, l4Create: 4, l4Destroy: 5 } as const;

export interface Pvinfo {
  readonly magic: { readonly low: number; readonly high: number };
  readonly version: { readonly major: number; readonly minor: number };
  readonly caps: number;
  /** In bytes, as the guest reads them. */
  readonly mappable: Slice;
  readonly unmappable: Slice;
}

const inside = ({ base, size }: Slice, page: number): boolean => page >= base && page < base + size;

/** Is that page of graphics memory the guest's? */
export const owns = (p: Partition, page: number): boolean => inside(p.mappable, page) || inside(p.unmappable, page);

/** The page of graphics memory behind a host address of the aperture, or -1: not the guest's part of it. */
export function apertureGma(gpu: MediatedGpuConfig, p: Partition, address: number): number {
  const page = Math.floor((address - gpu.apertureBase) / 4096);
  return page < gpu.aperturePages && inside(p.mappable, page) ? page : -1;
}

export function pvinfo(p: Partition): Pvinfo {
  const bytes = ({ base, size }: Slice): Slice => ({ base: base * 4096, size: size * 4096 });
  return {
    magic: PVINFO_MAGIC,
    version: { major: 1, minor: 0 },
    caps: pvinfoCaps.fullPpgtt,
    mappable: bytes(p.mappable),
    unmappable: bytes(p.unmappable),
  };
}

/** First free place of that size in [start, end) beside the slices taken, or -1. */
function place(start: number, end: number, size: number, taken: readonly Slice[]): number {
  let at = start;
  for (const { base, size: used } of taken.toSorted((a, b) => a.base - b.base)) {
    if (base >= at + size) break;
    at = Math.max(at, base + used);
  }
  return at + size <= end ? at : -1;
}

/** A guest's slices of the sizes asked for, disjoint from all others'; null: no room, or a size that is none. */
export function partition(
  gpu: MediatedGpuConfig,
  mappable: number,
  unmappable: number,
  others: readonly Partition[],
): Partition | null {
  const sizes = [mappable, unmappable];
  if (sizes.some((n) => !Number.isInteger(n) || n < 0) || mappable + unmappable === 0) return null;
  const slices = others.flatMap((p) => [p.mappable, p.unmappable]).filter(({ size }) => size > 0);
  const low = mappable === 0 ? 0 : place(0, gpu.aperturePages, mappable, slices);
  const high = unmappable === 0 ? gpu.aperturePages : place(gpu.aperturePages, gpu.gmPages, unmappable, slices);
  if (low < 0 || high < 0) return null;
  return { mappable: { base: low, size: mappable }, unmappable: { base: high, size: unmappable } };
}
