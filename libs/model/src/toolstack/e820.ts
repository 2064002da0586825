// The E820 memory map as toolstack and firmware both see it: entry, type numbers, names, the overlap test.
// Owns no map and decides nothing; addresses and sizes are bytes in plain numbers (all below 2^53). Where Xen computes in
// unsigned 64 bits and wraps, the number here is negative: the two's complement of what Xen stores.

import type { E820Type, MemoryMapEntry } from '../hypercall/calls.ts';

export const E820_RAM = 1;
export const E820_RESERVED = 2;
export const E820_ACPI = 3;
export const E820_NVS = 4;
export const E820_UNUSABLE = 5;

/** Room for entries in XENMEM_set_memory_map and in hvmloader's own copy. */
export const E820MAX = 128;

export type E820Entry = MemoryMapEntry;
export type { E820Type };

export const KIB = 1024;
export const MIB = 2 ** 20;
export const GIB = 2 ** 30;
export const FOUR_GIB = 2 ** 32;

/** Default start of an HVM guest's low MMIO window; low RAM never reaches above it (HVM_BELOW_4G_MMIO_START). */
export const HVM_BELOW_4G_MMIO_START = 0xf0000000;
export const HVM_BELOW_4G_MMIO_LENGTH = FOUR_GIB - HVM_BELOW_4G_MMIO_START;
/** First page past the special pages (X86_HVM_END_SPECIAL_REGION), and how many of them there are. */
export const SPECIAL_PAGES_END_PFN = 0xff000;
export const NR_SPECIAL_PAGES = 8;
/** Where hvmloader's own reserved memory begins: the ACPI info page. */
export const ACPI_INFO_PHYSICAL_ADDRESS = 0xfc000000;
export const LAPIC_BASE_ADDRESS = 0xfee00000;

/** Half-open ranges [start, start+size). Zero-sized ranges behave as Xen's check_overlap has it. */
export function overlaps(start: number, size: number, otherStart: number, otherSize: number): boolean {
  return start + size > otherStart && start < otherStart + otherSize;
}

/** `value` rounded down to a multiple of `unit`, for values above 2^32 too. */
export const alignDown = (value: number, unit: number): number => value - (value % unit);

export const alignUp = (value: number, unit: number): number => alignDown(value + unit - 1, unit);
