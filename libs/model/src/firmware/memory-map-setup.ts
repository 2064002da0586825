// What hvmloader knows of its guest's memory (hvm_info_table's page ends and its copy of the toolstack's memory map), the
// port through which it changes that memory, and how it dies. As hvmloader's memory_map_setup. 32-bit code: page ends are
// u32, a low-memory address is (pgend << 12) modulo 2^32.

import { E820_RESERVED, type E820Entry, overlaps } from '../toolstack/e820.ts';

/** The ACPI info page, and the end of the low window for BARs. */
export const RESERVED_MEMBASE = 0xfc000000;
export const ACPI_MEMORY_DYNAMIC_START = 0xfc001000;
export const RESERVED_MEMORY_DYNAMIC_START = 0xfc100000;
export const RESERVED_MEMORY_DYNAMIC_END = 0xfe000000;
export const PAGE_SHIFT = 12;
export const PAGE = 4096;

/** The hypercalls hvmloader makes on its own memory. */
export interface FirmwareMemory {
  /** XENMEM_populate_physmap of one 4 KiB page; false if the hypervisor would not. */
  populatePage(pfn: number): boolean;
  /** XENMEM_add_to_physmap within the guest: `pages` frames from `fromPfn` on move to `toPfn` (gmfn, or gmfn_range for many). */
  relocate(fromPfn: number, toPfn: number, pages: number): boolean;
}

/** hvmloader stopped: the firmware crashes the domain after printing `message`. Thrown out of the whole boot. */
export class FirmwareCrash extends Error {
  readonly kind: 'bug' | 'assert';

  constructor(kind: 'bug' | 'assert', message: string) {
    super(message);
    this.kind = kind;
  }
}

export const bug = (where: string): FirmwareCrash => new FirmwareCrash('bug', `*** HVMLoader bug at ${where}`);

export function assertion(text: string, where: string): FirmwareCrash {
  return new FirmwareCrash('assert', `*** HVMLoader assertion '${text}' failed at ${where}`);
}

/** Mutable through the whole boot; one object per guest. */
export interface HvmInfo {
  /** One past the last page of RAM below / above 4 GiB; the latter 0 if there is none. */
  lowMemPgend: number;
  highMemPgend: number;
  /** hvmloader's copy of XENMEM_memory_map. */
  memoryMap: E820Entry[];
}

/** low_mem_pgend as an address: a 32-bit shift. */
export const lowMemEnd = (info: HvmInfo): number => (info.lowMemPgend << PAGE_SHIFT) >>> 0;

/** Takes the toolstack's map; a region reserved where hvmloader allocates dynamically kills the guest here. */
export function memoryMapSetup(memoryMap: readonly E820Entry[], print: (line: string) => void): E820Entry[] {
  if (memoryMap.length === 0) {
    print('Get guest memory maps[0] failed. (0)');
    throw bug('e820.c:39');
  }
  const size = RESERVED_MEMORY_DYNAMIC_END - RESERVED_MEMORY_DYNAMIC_START;
  for (const entry of memoryMap) {
    if (entry.type === E820_RESERVED && overlaps(RESERVED_MEMORY_DYNAMIC_START, size, entry.addr, entry.size)) {
      print('Fail to setup memory map due to conflict on dynamic reserved memory range.');
      throw bug('e820.c:52');
    }
  }
  return memoryMap.map((entry) => ({ ...entry }));
}
