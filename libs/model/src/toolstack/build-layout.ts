// Where an HVM or PVH guest's RAM goes: low part, MMIO hole, part above 4 GiB; as the first half of libxl__build_hvm.
// Owns the arithmetic; reserved device memory is taken out afterwards (construct-rdm.ts), population is meminit-hvm.ts.

import {
  ACPI_INFO_PHYSICAL_ADDRESS,
  FOUR_GIB,
  HVM_BELOW_4G_MMIO_LENGTH,
  HVM_BELOW_4G_MMIO_START,
  KIB,
  LAPIC_BASE_ADDRESS,
  NR_SPECIAL_PAGES,
  SPECIAL_PAGES_END_PFN,
} from './e820.ts';

const PAGE = 4096;
/** Pages of the VGA hole 0xA0–0xBF, never populated (LIBXL_VGA_HOLE_SIZE). */
export const VGA_HOLE_PAGES = 0x20;

export interface LayoutRequest {
  readonly type: 'hvm' | 'pvh';
  readonly maxMemkb: number;
  readonly targetMemkb: number;
  readonly videoMemkb: number;
  /** 0: not configured. */
  readonly mmioHoleMemkb: number;
}

export interface HvmLayout {
  /** Byte addresses; highmemEnd 0 means no RAM above 4 GiB. */
  readonly lowmemEnd: number;
  readonly highmemEnd: number;
  readonly mmioStart: number;
  readonly mmioSize: number;
  readonly totalPages: number;
  /** Below totalPages: populate-on-demand. */
  readonly targetPages: number;
  readonly vgaHolePages: number;
  readonly deviceModel: boolean;
}

function mmioSizeFor(r: LayoutRequest): number {
  const configured = r.mmioHoleMemkb * KIB;
  // Strictly below the default start: a hole of exactly 256 MiB is the default anyway.
  if (configured !== 0 && FOUR_GIB - configured < HVM_BELOW_4G_MMIO_START) return configured;
  if (r.type === 'hvm') return HVM_BELOW_4G_MMIO_LENGTH;
  // PVH has no device model: only LAPIC, ACPI tables and special pages must lie in the hole.
  const special = (SPECIAL_PAGES_END_PFN - NR_SPECIAL_PAGES) * PAGE;
  return FOUR_GIB - Math.min(special, LAPIC_BASE_ADDRESS, ACPI_INFO_PHYSICAL_ADDRESS);
}

export function planLayout(r: LayoutRequest): HvmLayout {
  const bytes = (r.maxMemkb - r.videoMemkb) * KIB;
  const totalPages = Math.floor(bytes / PAGE);
  const targetKb = r.targetMemkb - r.videoMemkb;
  // Unsigned in libxl: a target below the video memory wraps to "more than everything", so there is no PoD.
  const targetPages = Math.floor((targetKb < 0 ? 2 ** 64 + targetKb : targetKb) / 4);
  const mmioSize = mmioSizeFor(r);
  const mmioStart = FOUR_GIB - mmioSize;
  const spills = bytes > mmioStart;
  return {
    lowmemEnd: spills ? mmioStart : bytes,
    highmemEnd: spills ? FOUR_GIB + (bytes - mmioStart) : 0,
    mmioStart,
    mmioSize,
    totalPages,
    targetPages: targetPages === 0 ? totalPages : targetPages,
    vgaHolePages: r.type === 'hvm' ? VGA_HOLE_PAGES : 0,
    deviceModel: r.type === 'hvm',
  };
}

/** Value of the xenstore key platform/mmio_hole_size, or null where libxl does not write it (no hole configured, or too small). */
export function mmioHoleSizeKey(mmioHoleMemkb: number): string | null {
  const bytes = mmioHoleMemkb * KIB;
  return bytes !== 0 && FOUR_GIB - bytes <= HVM_BELOW_4G_MMIO_START ? String(bytes) : null;
}
