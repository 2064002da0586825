// The memory map that the domain builder hands to the hypervisor for an HVM or PVH guest (XENMEM_set_memory_map), as
// libxl's domain_construct_memmap: not sorted, in exactly this order. What firmware makes of it is firmware/build-e820.ts.

import type { RdmEntry } from './construct-rdm.ts';
import {
  alignDown,
  type E820_ACPI,
  E820_NVS,
  E820_RAM,
  E820_RESERVED,
  type E820Entry,
  E820MAX,
  FOUR_GIB,
  MIB,
  NR_SPECIAL_PAGES,
  SPECIAL_PAGES_END_PFN,
} from './e820.ts';

const PAGE = 4096;

export interface AcpiModule {
  readonly guestAddr: number;
  readonly length: number;
}

export interface MemmapRequest {
  readonly type: 'hvm' | 'pvh';
  readonly lowmemEnd: number;
  readonly highmemEnd: number;
  readonly rdms: readonly Readonly<RdmEntry>[];
  readonly acpiModules: readonly AcpiModule[];
  /** Of the ACPI modules: NVS, as ACPI until Xen 4.17. */
  readonly acpiType?: typeof E820_NVS | typeof E820_ACPI;
}

export type MemmapResult =
  | { readonly ok: true; readonly memmap: E820Entry[] }
  | { readonly ok: false; readonly message: string };

export function constructMemmap(r: MemmapRequest): MemmapResult {
  // A device model's guest has its first MiB described by firmware.
  const lowStart = r.type === 'hvm' ? MIB : 0;
  const memmap: E820Entry[] = [{ addr: lowStart, size: r.lowmemEnd - lowStart, type: E820_RAM }];
  for (const rdm of r.rdms) {
    if (rdm.policy !== 'invalid') memmap.push({ addr: rdm.start, size: rdm.size, type: E820_RESERVED });
  }
  if (r.type === 'pvh') {
    const addr = (SPECIAL_PAGES_END_PFN - NR_SPECIAL_PAGES) * PAGE;
    memmap.push({ addr, size: NR_SPECIAL_PAGES * PAGE, type: E820_RESERVED });
  }
  for (const module of r.acpiModules) {
    if (module.length === 0) continue;
    const addr = alignDown(module.guestAddr, PAGE);
    memmap.push({ addr, size: module.length + (module.guestAddr - addr), type: r.acpiType ?? E820_NVS });
  }
  if (r.highmemEnd !== 0 && r.highmemEnd !== FOUR_GIB) {
    memmap.push({ addr: FOUR_GIB, size: r.highmemEnd - FOUR_GIB, type: E820_RAM });
  }
  if (memmap.length >= E820MAX) return { ok: false, message: 'Ooops! Too many entries in the memory map!' };
  return { ok: true, memmap };
}
