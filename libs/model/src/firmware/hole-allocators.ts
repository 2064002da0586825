// hvmloader's three allocators in the reserved area below 4 GiB: holes from the top down (not populated), memory from the
// bottom up and ACPI tables from their own start (both populated page by page). As mem_hole_alloc, mem_alloc,
// acpi_mem_alloc and mem_hole_populate_ram; pointers are u32 and wrap. Does not know who asks.

import { adjustMemoryMap } from './adjust-memory-map.ts';
import {
  ACPI_MEMORY_DYNAMIC_START,
  bug,
  type FirmwareMemory,
  type HvmInfo,
  PAGE_SHIFT,
  RESERVED_MEMORY_DYNAMIC_END,
  RESERVED_MEMORY_DYNAMIC_START,
} from './memory-map-setup.ts';

const FIRST_HIGH_PFN = 0x100000;
const MIN_ALIGN = 16;

interface Extent {
  readonly start: number;
  /** Last byte, inclusive. */
  readonly end: number;
}

/** Where an allocation after last used byte `up` begins and ends; null if it wraps. */
function nextExtent(up: number, size: number, align: number): Extent | null {
  const unit = Math.max(align, MIN_ALIGN) >>> 0;
  const start = ((up + unit) & ~(unit - 1)) >>> 0;
  const end = (start + size - 1) >>> 0;
  return end < start ? null : { start, end };
}

export class HoleAllocators {
  readonly #info: HvmInfo;
  readonly #memory: FirmwareMemory;
  #up = RESERVED_MEMORY_DYNAMIC_START - 1;
  #down = RESERVED_MEMORY_DYNAMIC_END;
  #acpiUp = ACPI_MEMORY_DYNAMIC_START - 1;
  /** After one refusal hvmloader never asks the hypervisor for a page again. */
  #overAllocated = false;

  constructor(info: HvmInfo, memory: FirmwareMemory) {
    this.#info = info;
    this.#memory = memory;
  }

  /** Address space only; returns its first pfn. */
  holeAlloc(pages: number): number {
    this.#down = (this.#down - ((pages << PAGE_SHIFT) >>> 0)) >>> 0;
    if (this.#up >= this.#down) throw bug('util.c:385');
    return this.#down >>> PAGE_SHIFT;
  }

  /** Populated memory; returns its address. */
  memAlloc(size: number, align: number): number {
    const extent = nextExtent(this.#up, size, align);
    if (extent === null || extent.end >= this.#down) throw bug('util.c:400');
    this.#enterPages(this.#up, extent.end);
    this.#up = extent.end;
    return extent.start;
  }

  acpiAlloc(size: number, align: number): number {
    const extent = nextExtent(this.#acpiUp, size, align);
    if (extent === null || extent.end >= RESERVED_MEMORY_DYNAMIC_START) throw bug('util.c:807');
    this.#enterPages(this.#acpiUp, extent.end);
    this.#acpiUp = extent.end;
    return extent.start;
  }

  /** Pages that the ACPI tables have entered so far. */
  acpiPages(): number {
    return (this.#acpiUp >>> PAGE_SHIFT) - ((ACPI_MEMORY_DYNAMIC_START - 1) >>> PAGE_SHIFT);
  }

  /** RAM at pfns that had none: new pages while the hypervisor gives some, afterwards the last pages of existing RAM. */
  populate(firstPfn: number, pages: number): void {
    for (let pfn = firstPfn; pfn < firstPfn + pages; pfn++) {
      if (!this.#overAllocated && this.#memory.populatePage(pfn)) continue;
      this.#overAllocated = true;
      if (!this.#memory.relocate(this.#takeLastPage(), pfn, 1)) throw bug('util.c:372');
    }
    adjustMemoryMap(this.#info);
  }

  #takeLastPage(): number {
    const info = this.#info;
    if (info.highMemPgend === 0) return --info.lowMemPgend;
    const pfn = --info.highMemPgend;
    if (pfn === FIRST_HIGH_PFN) info.highMemPgend = 0;
    return pfn;
  }

  #enterPages(up: number, end: number): void {
    for (let page = up >>> PAGE_SHIFT; page !== end >>> PAGE_SHIFT; ) {
      page++;
      this.populate(page, 1);
    }
  }
}
